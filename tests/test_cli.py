"""The commands that users type, from training to masks."""

import csv
import json
import shutil
from importlib.metadata import version

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from clipseg_pl.module import CLIPSegModule
from tests.command import EXPERIMENTS, arguments, results, run


@pytest.fixture(scope="module")
def trained(miniature, tmp_path_factory):
    """Folder of a finished run of three steps."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    run(*arguments("fit", miniature, folder, "--trainer.log_every_n_steps=1"))
    return folder


def test_a_run_leaves_everything_in_its_folder(trained):
    assert {file.name for file in (trained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    names = {file.name for file in (trained / "panels").iterdir()}
    assert names >= {"val-text-000003.png", "val-visual-000003.png"}
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert sum(bool(row["train/loss"]) for row in rows) == 3
    assert sum(bool(row["val/text/miou@0.3"]) for row in rows) == 3  # every 0.1 of 3 steps
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["decoder"]["init_args"]["layers"] == [3, 7, 9]


def test_results_hold_what_is_needed_to_trust_them(trained):
    found = results(trained)
    assert found["dataset_sizes"] == {"train": 36, "val": 15}
    assert found["metrics"]["val/text/prompts"] == 15
    assert 0 <= found["metrics"]["val/text/miou@0.3"] <= found["metrics"]["val/text/miou@best"] <= 1
    assert found["metrics"]["val/text/miou@kept"] == found["metrics"]["val/text/miou@best"]
    assert found["versions"]["torch"] == version("torch")
    assert found["step"] == 3 and found["seconds"] > 0
    assert len(found["config_hash"]) == 16 and "commit" in found and "dirty" in found


def test_checkpoints_hold_the_decoder_alone_and_no_path(trained):
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert all(key.startswith("model.decoder.") for key in content["state_dict"])
    assert content["image_size"] == 64 and 0 < content["threshold"] < 1
    description = json.dumps(content["hyper_parameters"])
    assert "/" not in description and "protocol" not in content["hyper_parameters"]
    assert content["hyper_parameters"]["backbone"]["init_args"]["name"] == "tiny"


def test_only_backbone_keys_may_be_missing_from_a_checkpoint(trained, tmp_path):
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    del content["state_dict"]["model.decoder.film_scale.bias"]
    torch.save(content, tmp_path / "lost.ckpt")
    with pytest.raises(RuntimeError, match=r"film_scale.bias"):
        CLIPSegModule.load_from_checkpoint(tmp_path / "lost.ckpt", weights_only=True)


def test_validate_reads_the_checkpoint_by_one_protocol(trained, miniature, tmp_path):
    overlay = EXPERIMENTS / "benchmarks" / "phrasecut_text.yaml"
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    run(*arguments("validate", miniature, tmp_path, checkpoint, configs=(overlay,)))
    numbers = results(tmp_path)["metrics"]
    assert {key.split("/")[1] for key in numbers} == {"text"}
    kept = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["threshold"]
    assert numbers["val/text/miou@kept"] > 0 and kept is not None
    assert [file.name for file in (tmp_path / "results").iterdir()] == [
        "validate-pc_plus+phrasecut_text.json"
    ]


def test_validate_repeats_the_last_validation_of_fit(trained, miniature, tmp_path):
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    run(*arguments("validate", miniature, tmp_path, checkpoint))
    assert results(tmp_path)["metrics"] == pytest.approx(results(trained)["metrics"], abs=1e-6)


def test_the_checkpoint_says_what_was_trained(trained, miniature, tmp_path, capsys):
    more = (
        f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}",
        "--model.decoder.init_args.dim=16",
    )
    run(*arguments("validate", miniature, tmp_path, *more))
    said = capsys.readouterr().err
    assert "decoder.init_args.dim = 64, which replaces 16" in said
    assert results(tmp_path)["config"]["model"]["decoder"]["init_args"]["dim"] == 64


def test_predict_writes_masks_at_the_size_of_the_photos(trained, miniature, tmp_path):
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    run(*arguments("predict", miniature, tmp_path, checkpoint))
    files = sorted((tmp_path / "predictions").glob("*.png"))
    tasks = json.loads((miniature / "VGPhraseCut_v0" / "refer_test.json").read_text())
    assert [file.stem for file in files] == sorted(task["task_id"] for task in tasks)
    mask = np.array(Image.open(files[0]))
    assert mask.shape == (60, 80) and set(np.unique(mask)) <= {0, 255}


def test_a_used_folder_is_refused_and_last_goes_on(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder))
    assert "holds a run already" in capsys.readouterr().err
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 5
    assert (folder / "metrics_before_1.csv").exists() and (folder / "metrics.csv").exists()


def test_last_with_nothing_there_is_an_error(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", "--ckpt_path=last"))
    assert "no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--model.decoder.init_args.dimm=3", "Did you mean 'dim'?"),
        ("--model.reduce_dim=3", "model takes backbone, compile, decoder"),
        ("--data.init_args.prompting.negativ_prob=0.5", "Did you mean 'negative_prob'?"),
        ("--trainer.max_step=3", "Did you mean 'max_steps'?"),
        ("--model.decoder.init_args.dim=abc", "Expected a <class 'int'>"),
        ("--model.decoder.init_args.layers=[3,77]", "0 to 11"),
        ("--model.backbone.init_args.name=nothing", "unknown CLIP 'nothing'"),
        ("--data.init_args.root=/nowhere", "missing photos in images/, image_data_split.json"),
        ("--data.init_args.image_size=60", "multiples of 16"),
        ("--data.init_args.prompting.text_weight_max=2", "text_weight_min <= text_weight_max"),
        ("--trainer.max_steps=-1", "set --trainer.max_steps"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(miniature, tmp_path, capsys, option, answer):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments("fit", miniature, tmp_path / "new", option))
    assert stopped.value.code
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert len(lines) == 1 and answer in lines[0]


def test_a_key_refused_in_a_file_is_named(miniature, tmp_path, capsys):
    overlay = tmp_path / "mistyped.yaml"
    overlay.write_text("model: {not_pretrained: true}")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", configs=(overlay,)))
    assert "not_pretrained" in capsys.readouterr().err
