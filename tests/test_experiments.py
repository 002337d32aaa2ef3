"""Every config overlay under experiments/ runs, and changes the base config."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from clipseg_pl.cli.resolve import resolve
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.places import PUBLISHED
from tests.command import BASE, EXPERIMENTS, arguments, results, run

OTHERS = [  # no configs; tested in tests/runs and tests/datasets/test_augmentation.py
    EXPERIMENTS / "tables.yaml",
    *sorted(EXPERIMENTS.glob("augmentation/*.yaml")),
]
OVERLAYS = sorted({*EXPERIMENTS.rglob("*.yaml")} - {BASE, *OTHERS})
TOY = EXPERIMENTS / "toy.yaml"
WORLD = {
    *("model.backbone.init_args.name", "model.decoder.init_args.dropout"),
    *("model.warmup_steps", "model.min_lr", "trainer.gradient_clip_val"),
    *(f"data.init_args.{key}" for key in ("root", "image_size", "batch_size", "num_workers")),
    *(f"trainer.{key}" for key in ("max_steps", "log_every_n_steps", "val_check_interval")),
}
"""keys that toy.yaml may change in any experiment"""


def holds_out(overlay: Path) -> bool:
    """Return whether a benchmark has held-out classes, hence an option `allow_seen`."""
    data = yaml.safe_load(overlay.read_text())["data"]
    if "class_path" not in data:
        return False
    module, _, name = data["class_path"].rpartition(".")
    return "allow_seen" in inspect.signature(getattr(import_module(module), name)).parameters


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
def test_every_overlay_runs(overlay, miniature, decoder_file, tmp_path, monkeypatch):
    command, more = "fit", ["--trainer.max_steps=1"]
    if overlay.stem == "rd64_refined":  # a local file takes precedence over the hub
        monkeypatch.chdir(tmp_path)
        published = FiLMDecoder(
            CLIPBackbone("tiny", pretrained=False).shape, layers=[3, 6, 9], head="refined"
        )
        (tmp_path / PUBLISHED).parent.mkdir()
        torch.save(published.state_dict(), tmp_path / PUBLISHED)
    if overlay.parent.name == "benchmarks":
        command = "validate"
        more = [f"--model.init_decoder={decoder_file}", "--trainer.limit_val_batches=2"]
        if holds_out(overlay):  # the classes this decoder was trained on are unknown
            more.append("--data.init_args.allow_seen=true")
    elif overlay.parent.name == "predict":
        photos = miniature / "VOC2012" / "JPEGImages" / "*1.jpg"
        command, more = "predict", [f"--model.init_decoder={decoder_file}"]
        more.append(f"--data.init_args.photos=[{photos}]")
    run(*arguments(command, miniature, tmp_path, *more, configs=(overlay,)))
    assert results(tmp_path)["metrics"]
    if overlay.stem == "wandb":
        assert list((tmp_path / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize("overlay", [BASE, *OVERLAYS, *OTHERS], ids=lambda file: file.stem)
def test_every_file_has_a_header_with_a_command(overlay):
    comments = [line for line in overlay.read_text().splitlines() if line.startswith("#")]
    assert len(comments) >= 2
    assert any("python -m clipseg_pl" in line for line in comments)


def test_every_mentioned_file_exists():
    root = EXPERIMENTS.parent
    files = [*root.glob("*.md"), *EXPERIMENTS.rglob("*.yaml"), *root.glob("clipseg_pl/**/*.py")]
    mentioned = {
        name
        for file in files
        for name in re.findall(r"experiments/[\w/]+\.(?:yaml|json|png|py)", file.read_text())
    }
    assert len(mentioned) > 8
    assert not [name for name in mentioned if not (root / name).is_file()]


def leaves(node: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(node, dict):
        return {prefix: node}
    parts = (leaves(value, f"{prefix}.{key}".strip(".")) for key, value in node.items())
    return {key: value for part in parts for key, value in part.items()}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
def test_overlays_are_small_and_change_something(overlay):
    changes = leaves(yaml.safe_load(overlay.read_text()))
    base = leaves(yaml.safe_load(BASE.read_text()))
    assert 1 <= len(changes) <= 12
    assert any(base.get(key) != value for key, value in changes.items())


def resolved(capsys, command: str, *configs: Path) -> dict[str, object]:
    """Return dotted key -> value of a run, as resolved by the command line."""
    with pytest.raises(SystemExit):
        run(command, *(f"--config={file}" for file in configs), "--print_config")
    return leaves(yaml.safe_load(capsys.readouterr().out))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overlay", [BASE, *(file for file in OVERLAYS if file != TOY)], ids=lambda file: file.stem
)
def test_toy_overlay_changes_only_the_keys_of_the_world(overlay, capsys):
    command = "validate" if overlay.parent.name == "benchmarks" else "fit"
    before = resolved(capsys, command, BASE, overlay)
    after = resolved(capsys, command, BASE, overlay, TOY)
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    assert changed <= WORLD and after["data.init_args.root"] == "toy"
    assert before.keys() == after.keys()


def test_base_has_the_papers_settings():
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
def test_every_overlay_resolves(overlay):
    command = {"benchmarks": "validate", "predict": "predict"}.get(overlay.parent.name, "fit")
    assert resolve([command, f"--config={BASE}", f"--config={overlay}"])["model"]
