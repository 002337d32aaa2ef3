"""The commands that users type, from training to masks."""

import csv
import json
import os
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
    assert numbers["val/text/miou@kept"] > 0
    assert [file.name for file in (tmp_path / "results").iterdir()] == [
        "validate-pc_plus+phrasecut_text-best.json"
    ]
    found = results(tmp_path)
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert found["step"] == best["global_step"] > 0 and found["dataset_sizes"] == {"test": 15}
    panels = tmp_path / "panels" / "pc_plus+phrasecut_text-best"
    assert [file.name for file in panels.iterdir()] == [f"val-text-{found['step']:06}.png"]


def test_evaluation_in_the_runs_own_folder_leaves_its_files_alone(trained, miniature, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    checkpoint = f"--ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    args = arguments("validate", miniature, folder, checkpoint)
    run(*(arg for arg in args if "default_root_dir" not in arg))  # the checkpoint's folder
    after = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert after == before and "metrics.csv" in before
    names = {file.name for file in (folder / "results").iterdir()}
    assert names == {"fit-pc_plus.json", "validate-pc_plus-last.json"}


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation_without_weights_is_refused(miniature, tmp_path, capsys, verb):
    with pytest.raises(SystemExit):
        run(*arguments(verb, miniature, tmp_path / "new"))
    assert f"{verb} needs weights: --ckpt_path" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_published_decoder_can_be_evaluated(decoder_file, miniature, tmp_path):
    run(*arguments("test", miniature, tmp_path, f"--model.init_decoder={decoder_file}"))
    assert results(tmp_path)["metrics"]["test/text/prompts"] == 15
    assert (tmp_path / "results" / "test-pc_plus-tiny-decoder.json").exists()


def test_a_decoder_that_does_not_fit_is_refused_in_one_line(
    decoder_file, miniature, tmp_path, capsys
):
    more = (f"--model.init_decoder={decoder_file}", "--model.decoder.init_args.dim=16")
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", *more))
    said = capsys.readouterr().err.strip()
    assert f"{decoder_file}: D is 64 in the file and 16 in the model" in said and "\n" not in said


@pytest.mark.parametrize("name", ["cut.ckpt", "text.ckpt", "other.ckpt"])
def test_what_is_no_checkpoint_is_refused_by_name(trained, miniature, tmp_path, capsys, name):
    whole = (trained / "checkpoints" / "best.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.ckpt")
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path / "new", f"--ckpt_path={tmp_path / name}"))
    said = capsys.readouterr().err.strip()
    assert f"{tmp_path / name}: not a checkpoint" in said and "\n" not in said


def test_a_photo_that_a_worker_cannot_read_is_named_in_one_line(
    trained, miniature, tmp_path, capsys
):
    root = tmp_path / "data"
    shutil.copytree(miniature, root)
    photos = root / "VGPhraseCut_v0" / "images"
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    run(*arguments("validate", root, tmp_path / "whole", checkpoint))  # builds the index
    capsys.readouterr()
    for photo in photos.iterdir():
        os.truncate(photo, photo.stat().st_size // 2)
    more = (checkpoint, "--data.init_args.num_workers=1")
    with pytest.raises(SystemExit):
        run(*arguments("validate", root, tmp_path / "cut", *more))
    lines = [line for line in capsys.readouterr().err.splitlines() if "clipseg_pl:" in line]
    assert len(lines) == 1 and f"clipseg_pl: {photos}" in lines[0] and ".jpg: cannot" in lines[0]


def test_training_without_checkpoints(miniature, tmp_path):
    run(*arguments("fit", miniature, tmp_path, "--trainer.enable_checkpointing=false"))
    assert not (tmp_path / "checkpoints").exists() and results(tmp_path)["step"] == 3


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
    files = sorted((tmp_path / "predictions" / "pc_plus-best").glob("*.png"))
    tasks = json.loads((miniature / "VGPhraseCut_v0" / "refer_test.json").read_text())
    assert [file.stem for file in files] == sorted(task["task_id"] for task in tasks)
    mask = np.array(Image.open(files[0]))
    assert mask.shape == (60, 80) and set(np.unique(mask)) <= {0, 255}
    made = results(tmp_path)
    assert made["metrics"] == {"predict/text/masks": 15}
    assert made["checkpoint"].endswith("best.ckpt")


def test_predict_does_not_mix_masks_of_two_runs(trained, miniature, tmp_path, capsys):
    args = arguments(
        *("predict", miniature, tmp_path, f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"),
        "--trainer.limit_predict_batches=1",
    )
    run(*args)
    with pytest.raises(SystemExit):
        run(*args, "--model.protocol.init_args.readings=[visual]")
    assert "holds masks already" in capsys.readouterr().err


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


def test_a_finished_run_has_nothing_to_go_on_with(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder, "--ckpt_path=last"))
    assert "has taken 3 of 3 steps" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_run_is_not_gone_on_with_in_the_folder_of_another(trained, miniature, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(trained, folder)
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, folder, checkpoint, "--trainer.max_steps=5"))
    assert "holds a run already" in capsys.readouterr().err


@pytest.mark.parametrize("moved", [False, True])
def test_going_on_keeps_the_best_until_there_is_a_better(trained, miniature, tmp_path, moved):
    """The best score is raised in `last`, so that no further step can reach it."""
    folder = tmp_path / ("elsewhere" if moved else "copy")
    shutil.copytree(trained, folder)
    last = folder / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    state = next(s for s in content["callbacks"].values() if s.get("monitor"))
    best = torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)
    known = next(s for s in best["callbacks"].values() if s.get("monitor"))
    assert state["best_model_score"] == known["best_model_score"]  # `last` knows the newest best
    state["best_model_score"] = torch.tensor(0.99)
    state["best_k_models"] = {key: torch.tensor(0.99) for key in state["best_k_models"]}
    state["kth_value"] = torch.tensor(0.99)
    if not moved:
        name = str(folder / "checkpoints" / "best.ckpt")
        state.update(best_model_path=name, kth_best_model_path=name, dirpath=str(last.parent))
        state["best_k_models"] = {name: torch.tensor(0.99)}
    torch.save(content, last)
    before = (folder / "checkpoints" / "best.ckpt").read_bytes()
    run(*arguments("fit", miniature, folder, "--ckpt_path=last", "--trainer.max_steps=5"))
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == before
    assert torch.load(last, weights_only=True)["global_step"] == 5


def test_another_evaluation_does_not_replace_the_results(trained, miniature, tmp_path):
    args = arguments(
        "validate", miniature, tmp_path, f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    )
    for more in ([], ["--data.init_args.rasterizer=pil"], []):
        run(*args, *more)
    files = sorted((tmp_path / "results").iterdir())
    hashes = [json.loads(file.read_text())["config_hash"] for file in files]
    assert len(files) == 2 and files[0].stem == f"{files[1].stem}-{hashes[0][:8]}"


def test_what_was_not_measured_is_not_reported_as_zero(trained, miniature, tmp_path):
    more = (
        f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}",
        "--data.init_args.prompting.supports=false",
    )
    run(*arguments("validate", miniature, tmp_path, *more))
    numbers = results(tmp_path)["metrics"]
    assert numbers["val/visual/prompts"] == 0 and "val/visual/miou@0.3" not in numbers
    assert numbers["val/text/prompts"] == 15 and "val/text/miou@0.3" in numbers


def test_last_with_nothing_there_is_an_error(miniature, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(*arguments("fit", miniature, tmp_path / "new", "--ckpt_path=last"))
    assert "no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("--model.decoder.init_args.dimm=3", "Did you mean dim?"),
        ("--dim=3", "Did you mean model.decoder.init_args.dim?"),
        ("--modle.min_lr=3", "Did you mean model.min_lr?"),
        ("--model.decoder.init_args.batch_size=3", "Did you mean data.init_args.batch_size?"),
        ("--model.reduce_dim=3", "model takes backbone, compile, decoder"),
        ("--data.init_args.prompting.negativ_prob=0.5", "Did you mean prompting.negative_prob?"),
        ("--trainer.max_step=3", "Did you mean trainer.max_steps?"),
        ("--model.decoder.init_args.dim=abc", "Expected a <class 'int'>"),
        ("--model.decoder.init_args.layers=[3,77]", "0 to 11"),
        ("--model.backbone.init_args.name=nothing", "unknown CLIP 'nothing'"),
        ("--data.init_args.root=/nowhere", "missing photos in images/, image_data_split.json"),
        ("--data.init_args.image_size=60", "multiples of 16"),
        ("--data.init_args.prompting.text_weight_max=2", "text_weight_min <= text_weight_max"),
        ("--trainer.max_steps=-1", "set --trainer.max_steps"),
        ("--model.decoder.init_args.heads=5", "heads do not divide"),
        ("--trainer.limit_val_batches=-1", "invalid value -1 for limit_val_batches"),
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
