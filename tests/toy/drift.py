"""What the toy world comes to, in numbers that must not change unnoticed.

    python -m tests.toy.drift

writes them into `golden.json`, for a change that is meant.
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
    """Draw the pictures that are measured on."""
    for request in (
        phrasecut_request({"train": 40, "val": 20}, 0),
        voc_request({"train": 40, "val": 40}, 0),
        lvis_request({"val": 40}, 0),
    ):
        build_folders(root, request, progress=False)


def evaluate(root: Path, folder: Path) -> dict[str, dict[str, float]]:
    """The metrics of the shipped decoder, by benchmark."""
    numbers = {}
    for name, overlays in BENCHMARKS.items():
        allowed = ("--data.init_args.allow_seen=true",) if overlays else ()
        files = [BASE, *(EXPERIMENTS / overlay for overlay in overlays)]
        _run("validate", root, folder / name, files, f"--ckpt_path={TOY_CHECKPOINT}", *allowed)
        numbers[name] = results(folder / name)["metrics"]
    return numbers


def train(root: Path, folder: Path) -> dict[str, Any]:
    """The state after some steps: weights, and the metrics that they reach."""
    size = (f"--trainer.max_steps={STEPS}", "--data.init_args.batch_size=16")
    _run("fit", root, folder, [BASE], *size)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {"weights": content["state_dict"], "metrics": results(folder)["metrics"]}


def _run(verb: str, root: Path, folder: Path, configs: list[Path], *more: str) -> None:
    run(
        *(verb, *(f"--config={file}" for file in (*configs, EXPERIMENTS / "toy.yaml"))),
        *(f"--data.init_args.root={root}", f"--trainer.default_root_dir={folder}"),
        *("--trainer.precision=32-true", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
        *more,
    )


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """All numbers that are kept."""
    draw(folder / "data")
    numbers = evaluate(folder / "data", folder)
    return {**numbers, "fit": train(folder / "data", folder / "fit")["metrics"]}


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place))
    GOLDEN.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
