"""Metrics on the toy world that must not change unintentionally.

After an intended change of the code, write the new values to `golden.json` with

    python -m tests.toy.drift
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from clipseg_pl.weights.places import TOY_CHECKPOINT
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.lvis import lvis_request
from datamodules.toy.writers.phrasecut import phrasecut_request
from datamodules.toy.writers.voc import voc_request
from tests.command import BASE, EXPERIMENTS, results, run

GOLDEN = Path(__file__).with_name("golden.json")
BENCHMARKS = {
    "phrasecut": (),
    "pascal_zero_shot": ("benchmarks/pascal_zero_shot.yaml",),
    "pascal_5i": ("benchmarks/pascal_5i.yaml",),
    "lvis_prompts": ("benchmarks/lvis_prompts.yaml",),
}
STEPS = 12


def draw(root: Path) -> None:
    """Draw the datasets for training and evaluation."""
    for request in (
        phrasecut_request({"train": 40, "val": 20}, 0),
        voc_request({"train": 40, "val": 40}, 0),
        lvis_request({"val": 40}, 0),
    ):
        build_folders(root, request, progress=False)


def evaluate(root: Path, folder: Path) -> dict[str, dict[str, float]]:
    """Return benchmark -> metrics of the shipped decoder."""
    metrics = {}
    for name, overlays in BENCHMARKS.items():
        allowed = ("--data.init_args.allow_seen=true",) if overlays else ()
        files = [BASE, *(EXPERIMENTS / overlay for overlay in overlays)]
        _run("validate", root, folder / name, files, f"--ckpt_path={TOY_CHECKPOINT}", *allowed)
        metrics[name] = results(folder / name)["metrics"]
    return metrics


def train(root: Path, folder: Path) -> dict[str, Any]:
    """Train for `STEPS` steps; return the weights and their metrics."""
    size = (f"--trainer.max_steps={STEPS}", "--data.init_args.batch_size=16")
    _run("fit", root, folder, [BASE], *size)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {"weights": content["state_dict"], "metrics": results(folder)["metrics"]}


def _run(command: str, root: Path, folder: Path, configs: list[Path], *more: str) -> None:
    run(
        *(command, *(f"--config={file}" for file in (*configs, EXPERIMENTS / "toy.yaml"))),
        *(f"--data.init_args.root={root}", f"--trainer.default_root_dir={folder}"),
        *("--trainer.precision=32-true", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *more,
    )


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Return all metrics in `golden.json`."""
    draw(folder / "data")
    metrics = evaluate(folder / "data", folder)
    return {**metrics, "fit": train(folder / "data", folder / "fit")["metrics"]}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as place:
        metrics = measure(Path(place))
    GOLDEN.write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n")
