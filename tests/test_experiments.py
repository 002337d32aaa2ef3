"""Every overlay under experiments/ runs, and changes what it says it changes."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from clipseg_pl.cli.resolve import resolve
from tests.command import BASE, EXPERIMENTS, arguments, results, run

LISTS = {EXPERIMENTS / "tables.yaml"}  # of runs: tests/tables
OVERLAYS = sorted({*EXPERIMENTS.rglob("*.yaml")} - {BASE, *LISTS})
TOY = EXPERIMENTS / "toy.yaml"
WORLD = {
    "model.backbone.init_args.name",
    *(f"data.init_args.{key}" for key in ("root", "image_size", "batch_size", "num_workers")),
    *(f"trainer.{key}" for key in ("max_steps", "log_every_n_steps", "val_check_interval")),
}
"""keys that the toy world may change in any experiment"""


def holds_out(overlay: Path) -> bool:
    """Whether a benchmark holds something out of training, which `allow_seen` lets pass."""
    data = yaml.safe_load(overlay.read_text())["data"]
    if "class_path" not in data:
        return False
    module, _, name = data["class_path"].rpartition(".")
    return "allow_seen" in inspect.signature(getattr(import_module(module), name)).parameters


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
def test_every_overlay_runs(overlay, miniature, decoder_file, tmp_path):
    verb, more = "fit", ["--trainer.max_steps=1"]
    if overlay.parent.name == "benchmarks":
        verb = "validate"
        more = [f"--model.init_decoder={decoder_file}", "--trainer.limit_val_batches=2"]
        if holds_out(overlay):  # and the decoder's training is unknown
            more.append("--data.init_args.allow_seen=true")
    elif overlay.parent.name == "predict":
        photos = miniature / "VOC2012" / "JPEGImages" / "*1.jpg"
        verb, more = "predict", [f"--model.init_decoder={decoder_file}"]
        more.append(f"--data.init_args.photos=[{photos}]")
    run(*arguments(verb, miniature, tmp_path, *more, configs=(overlay,)))
    assert results(tmp_path)["metrics"]
    if overlay.stem == "wandb":
        assert list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize("overlay", [BASE, *OVERLAYS, *LISTS], ids=lambda file: file.stem)
def test_every_file_opens_with_what_it_is_and_how_to_run_it(overlay):
    comments = [line for line in overlay.read_text().splitlines() if line.startswith("#")]
    assert len(comments) >= 2
    assert any("python -m clipseg_pl" in line for line in comments)


def test_every_file_that_is_named_exists():
    root = EXPERIMENTS.parent
    files = [*root.glob("*.md"), *EXPERIMENTS.rglob("*.yaml"), *root.glob("clipseg_pl/**/*.py")]
    named = {
        name
        for file in files
        for name in re.findall(r"experiments/[\w/]+\.(?:yaml|json|png|py)", file.read_text())
    }
    assert len(named) > 8
    assert not [name for name in named if not (root / name).is_file()]


def leaves(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix: node}
    parts = (leaves(value, f"{prefix}.{key}".strip(".")) for key, value in node.items())
    return {key: value for part in parts for key, value in part.items()}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
def test_overlays_are_small_and_change_something(overlay):
    changes = leaves(yaml.safe_load(overlay.read_text()))
    base = leaves(yaml.safe_load(BASE.read_text()))
    assert 1 <= len(changes) <= 8
    assert any(base.get(key) != value for key, value in changes.items())


def resolved(capsys, verb: str, *configs: Path) -> dict[str, object]:
    """Every value of a run by its dotted key, as the command line resolves it."""
    with pytest.raises(SystemExit):
        run(verb, *(f"--config={file}" for file in configs), "--print_config")
    return leaves(yaml.safe_load(capsys.readouterr().out))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overlay", [BASE, *(file for file in OVERLAYS if file != TOY)], ids=lambda file: file.stem
)
def test_the_world_changes_where_an_experiment_runs_and_nothing_of_what_it_is(overlay, capsys):
    verb = "validate" if overlay.parent.name == "benchmarks" else "fit"
    without = resolved(capsys, verb, BASE, overlay)
    within = resolved(capsys, verb, BASE, overlay, TOY)
    differing = {
        key for key in without.keys() | within.keys() if without.get(key) != within.get(key)
    }
    assert differing <= WORLD and within["data.init_args.root"] == "toy"
    assert without.keys() == within.keys()


def test_the_base_stands_alone_with_the_papers_numbers():
    config = leaves(yaml.safe_load(Path(BASE).read_text()))
    data, prompting = "data.init_args", "data.init_args.prompting"
    assert config["model.decoder.init_args.layers"] is None  # 3, 7, 9: tests/models/test_decoder
    assert config["model.decoder.init_args.dim"] == 64
    assert config["model.optimizer.init_args.lr"] == 0.001 and config["model.min_lr"] == 0.0001
    assert config[f"{data}.image_size"] == 352 and config[f"{data}.batch_size"] == 64
    assert config["trainer.max_steps"] == 20000
    assert config[f"{prompting}.negative_prob"] == 0.2
    assert (config[f"{prompting}.text_weight_min"], config[f"{prompting}.text_weight_max"]) == (
        0,
        1,
    )


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
def test_every_overlay_is_understood(overlay):
    verb = {"benchmarks": "validate", "predict": "predict"}.get(overlay.parent.name, "fit")
    assert resolve([verb, f"--config={BASE}", f"--config={overlay}"])["model"]
