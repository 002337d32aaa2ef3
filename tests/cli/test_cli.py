"""`fit`, `validate`, `test` and `predict` from training to masks."""

import csv
import json
from importlib.metadata import version

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from clipseg_pl.training.module import CLIPSegModule
from tests.command import BASE, EXPERIMENTS, arguments, results, run


def test_fit_writes_all_outputs_to_its_folder(trained):
    assert {file.name for file in (trained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    names = {file.name for file in (trained / "panels").iterdir()}
    assert names >= {"val-text-000003.png", "val-visual-000003.png"}
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert sum(bool(row["train/loss"]) for row in rows) == 3
    assert sum(bool(row["val/text/miou@0.3"]) for row in rows) == 3  # every 0.1 of 3 steps
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["model"]["decoder"]["init_args"]["layers"] is None  # default of the backbone


def test_results_contain_metrics_versions_and_provenance(trained):
    found = results(trained)
    assert found["dataset_sizes"] == {"train": 36, "val": 15}
    assert found["metrics"]["val/text/prompts"] == 15
    assert 0 <= found["metrics"]["val/text/miou@0.3"] <= found["metrics"]["val/text/miou@best"] <= 1
    assert found["metrics"]["val/text/miou@stored"] == found["metrics"]["val/text/miou@best"]
    assert found["versions"]["torch"] == version("torch")
    assert found["step"] == 3 and found["seconds"] > 0
    assert len(found["config_hash"]) == 16 and "commit" in found and "dirty" in found


def test_checkpoint_contains_the_decoder_only_and_no_path(trained):
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert all(key.startswith("model.decoder.") for key in content["state_dict"])
    assert content["image_size"] == 64 and 0 < content["threshold"] < 1
    assert 0 <= content["absent_cut"] < 1
    assert content["layers"] == [3, 7, 9]
    description = json.dumps(content["hyper_parameters"])
    assert "/" not in description and "protocol" not in content["hyper_parameters"]
    assert content["hyper_parameters"]["backbone"]["init_args"]["name"] == "tiny"
    hidden = len(content["state_dict"]["model.decoder.blocks.0.linear1.weight"])
    assert content["hyper_parameters"]["decoder"]["init_args"]["feedforward"] == hidden


def test_checkpoint_without_a_decoder_weight_raises(trained, tmp_path):
    content = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    del content["state_dict"]["model.decoder.film_scale.bias"]
    torch.save(content, tmp_path / "lost.ckpt")
    with pytest.raises(RuntimeError, match=r"film_scale.bias"):
        CLIPSegModule.load_from_checkpoint(tmp_path / "lost.ckpt", weights_only=True)


def test_validate_uses_the_protocol_of_the_benchmark(trained, miniature, tmp_path):
    overlay = EXPERIMENTS / "benchmarks" / "phrasecut_text.yaml"
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    run(*arguments("validate", miniature, tmp_path, checkpoint, configs=(overlay,)))
    numbers = results(tmp_path)["metrics"]
    assert {key.split("/")[1] for key in numbers} == {"text"}
    assert numbers["val/text/miou@stored"] > 0
    assert [file.name for file in (tmp_path / "results").iterdir()] == [
        "validate-pc_plus+phrasecut_text-best.json"
    ]
    found = results(tmp_path)
    best = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    assert found["step"] == best["global_step"] > 0 and found["dataset_sizes"] == {"test": 15}
    assert best["threshold"] is not None
    panels = tmp_path / "panels" / "pc_plus+phrasecut_text-best"
    assert [file.name for file in panels.iterdir()] == [f"val-text-{found['step']:06}.png"]


def test_published_decoder_can_be_evaluated(decoder_file, miniature, tmp_path):
    run(*arguments("test", miniature, tmp_path, f"--model.init_decoder={decoder_file}"))
    assert results(tmp_path)["metrics"]["test/text/prompts"] == 15
    assert (tmp_path / "results" / "test-pc_plus-tiny-decoder.json").exists()


@pytest.mark.parametrize(
    ("prompt_type", "more"),
    [
        ("blend", "--model.protocol.init_args.prompt_types=[blend]"),
        ("text", "--trainer.precision=bf16-true"),
    ],
)
def test_fit_validates_with_blend_prompts_and_in_bfloat16(miniature, tmp_path, prompt_type, more):
    run(*arguments("fit", miniature, tmp_path, more))
    metrics = results(tmp_path)["metrics"]
    assert (
        metrics[f"val/{prompt_type}/prompts"] == 15
        and f"val/{prompt_type}/absent_rate@0.3" in metrics
    )
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_half_precision_evaluates_close_to_float32(trained, miniature, tmp_path, precision):
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    precision = f"--trainer.precision={precision}"
    run(*arguments("validate", miniature, tmp_path, checkpoint, precision))
    found, expected = results(tmp_path)["metrics"], results(trained)["metrics"]
    assert found["val/text/miou@0.3"] == pytest.approx(expected["val/text/miou@0.3"], abs=0.02)


@pytest.mark.slow
def test_fit_without_checkpoints_writes_results(miniature, tmp_path):
    run(*arguments("fit", miniature, tmp_path, "--trainer.enable_checkpointing=false"))
    assert not (tmp_path / "checkpoints").exists() and results(tmp_path)["step"] == 3


def test_validate_repeats_the_last_validation_of_fit(trained, miniature, tmp_path):
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'last.ckpt'}"
    ignored = "--model.init_decoder=owner/nothing"  # the checkpoint replaces these weights
    run(*arguments("validate", miniature, tmp_path, checkpoint, ignored))
    assert results(tmp_path)["metrics"] == pytest.approx(results(trained)["metrics"], abs=1e-6)


def test_checkpoint_overrides_model_settings_with_a_message(trained, miniature, tmp_path, capsys):
    more = (
        f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}",
        "--model.decoder.init_args.dim=16",
    )
    run(*arguments("validate", miniature, tmp_path, *more))
    message = capsys.readouterr().err
    assert "using model.decoder.init_args.dim = 64 of the checkpoint, instead of 16" in message
    assert results(tmp_path)["config"]["model"]["decoder"]["init_args"]["dim"] == 64


def test_predict_writes_masks_at_the_size_of_the_photos(trained, miniature, tmp_path):
    checkpoint = f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}"
    run(*arguments("predict", miniature, tmp_path, checkpoint))
    files = sorted((tmp_path / "predictions" / "pc_plus-best").glob("*.png"))
    tasks = json.loads((miniature / "VGPhraseCut_v0" / "refer_test.json").read_text())
    assert [file.stem for file in files] == sorted(task["task_id"] for task in tasks)
    mask = np.array(Image.open(files[0]))
    assert mask.shape == (60, 80) and set(np.unique(mask)) <= {0, 255}
    content = results(tmp_path)
    assert content["metrics"] == {"predict/text/masks": 15}
    assert content["checkpoint"].endswith("best.ckpt")


def test_predict_ignores_the_absent_cut_on_benchmarks(trained, miniature, tmp_path):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    masks = []
    for name, cut in (("without", None), ("high", 1.0)):
        torch.save({**content, "absent_cut": cut}, tmp_path / f"{name}.ckpt")
        checkpoint = f"--ckpt_path={tmp_path / name}.ckpt"
        run(*arguments("predict", miniature, tmp_path / name, checkpoint))
        files = sorted((tmp_path / name / "predictions" / f"pc_plus-{name}").glob("*.png"))
        masks.append([np.array(Image.open(file)) for file in files])
    assert len(masks[0]) == len(masks[1]) == 15
    assert all(map(np.array_equal, *masks)) and any(mask.any() for mask in masks[0])


def test_predict_uses_the_threshold_of_the_class_of_a_phrase(trained, miniature, tmp_path):
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    tasks = json.loads((miniature / "VGPhraseCut_v0" / "refer_test.json").read_text())
    phrase = tasks[0]["phrase"]
    content |= {"threshold": 0.0, "class_thresholds": {phrase.lower(): 1.0}}
    torch.save(content, tmp_path / "own.ckpt")
    run(*arguments("predict", miniature, tmp_path, f"--ckpt_path={tmp_path / 'own.ckpt'}"))
    folder = tmp_path / "predictions" / "pc_plus-own"
    found = {
        task["task_id"] for task in tasks if np.any(Image.open(folder / f"{task['task_id']}.png"))
    }
    assert found == {task["task_id"] for task in tasks if task["phrase"] != phrase}


def test_metrics_without_prompts_are_left_out(trained, miniature, tmp_path):
    more = (
        f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}",
        "--data.init_args.prompting.supports=false",
    )
    run(*arguments("validate", miniature, tmp_path, *more))
    numbers = results(tmp_path)["metrics"]
    assert numbers["val/visual/prompts"] == 0 and "val/visual/miou@0.3" not in numbers
    assert numbers["val/text/prompts"] == 15 and "val/text/miou@0.3" in numbers


def test_evaluation_without_any_prompt_is_an_error(trained, miniature, tmp_path, capsys):
    more = (
        f"--ckpt_path={trained / 'checkpoints' / 'best.ckpt'}",
        "--data.init_args.prompting.supports=false",
        "--model.protocol.init_args.prompt_types=[visual]",
    )
    with pytest.raises(SystemExit):
        run(*arguments("validate", miniature, tmp_path, *more))
    message = capsys.readouterr().err
    assert "nothing to evaluate: no sample has a prompt of type visual" in message
    assert not (tmp_path / "results").exists()


def test_option_of_a_class_accepts_null(capsys):
    key = "--data.init_args.prompting.visual_prompt.context"
    with pytest.raises(SystemExit):
        run("fit", f"--config={BASE}", f"{key}=null", "--print_config")
    prompting = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["prompting"]
    assert prompting["visual_prompt"]["context"] is None
    assert prompting["visual_prompt"]["background"] == 0.1
