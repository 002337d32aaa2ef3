"""Measure on the toy world, over several seeds, which prompts a decoder follows.

    python -m clipseg_pl tables --world toy --only T7
    python experiments/toy_claims.py

The first command trains the models: CLIPSeg (PC+), and CLIPSeg (PC+) without phrases about fold 0
(five of Pascal VOC's twenty classes). The metrics are written to
experiments/results/toy_claims.json, with commit and config hash of each training.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.metrics.functional import (
    PAPER_THRESHOLD,
    THRESHOLDS,
    Counts,
    counts_at_thresholds,
    histograms,
    iou_foreground,
    paper_average_precision,
)
from clipseg_pl.runs.run import newest_results
from clipseg_pl.training.callbacks.results import provenance
from datamodules.toy.language.words import NAMES, kind_name, properties_of
from datamodules.toy.scenes.kinds import PASCAL_KINDS, UNNAMED_KINDS
from datamodules.toy.scenes.scene import Scene, Thing, draw_scene

HERE = Path(__file__).parent
MODELS = {"pc_plus": "pc_plus", "without_fold_0": "pc_plus+without_fold_0"}
"""model -> name of its training in the tables"""
FOLD_0 = PASCAL_KINDS[:5]
PROMPTS = {
    "sit on": "something to sit on",
    "drink from": "something to drink from",
    "ride on": "something to ride on",
    "can fly": "it can fly",
    "can be driven": "it can be driven",
    "can swim": "it can swim",
    "has wheels": "has wheels",
    "has legs": "has legs",
    "has ears": "has ears",
}
"""the authors' generalised prompt -> wording used here; "has ears" is only in their code"""
_GROUPS = ("fold 0", "other Pascal kinds", "invented kinds", "invented kinds, never named")
_SEED = 0xC1A15  # first part of every generator's seed, unique to these scenes
_AT = int((THRESHOLDS - PAPER_THRESHOLD).abs().argmin())  # index of the paper's threshold

Mask = npt.NDArray[np.bool_]
Probability = npt.NDArray[np.float32]


def find_run(runs: Path, name: str, seed: int) -> Path:
    """Return the folder of a finished training.

    Raises:
        SystemExit: if there is none, or several with different configs.
    """
    training = f"{MODELS[name]}+seed={seed}" if seed else MODELS[name]
    found = [folder for folder in runs.glob(f"{training}-*") if newest_results(folder, "fit")]
    if len(found) != 1:
        sys.exit(
            f"{runs} contains {len(found)} finished trainings {training} instead of one: run the "
            "`tables` command first (see --help), or remove the outdated ones"
        )
    return found[0]


class Tally:
    """Accumulator of mIoU at the paper's threshold, best IoU_FG, and AP over all pixels."""

    def __init__(self) -> None:
        """Start without prompts."""
        self.ious: list[float] = []
        self.counts: list[Counts] = []

    def add(self, probability: Probability, target: Mask) -> None:
        """Add one prompt."""
        counts = counts_at_thresholds(
            histograms(torch.from_numpy(probability)[None], torch.from_numpy(target)[None])
        )
        self.counts.append(counts)
        self.ious.append(float(iou_foreground(counts)[0, _AT]))

    def numbers(self) -> dict[str, float]:
        """Return the number of prompts and, if there are any, the metrics in [0, 1]."""
        if not self.ious:
            return {"prompts": 0}
        total = Counts(*(torch.cat(values).sum(0) for values in zip(*self.counts, strict=True)))
        return {
            "prompts": len(self.ious),
            "miou@0.3": round(statistics.fmean(self.ious), 4),
            "iou_fg@best": round(float(iou_foreground(total).max()), 4),
            "ap": round(paper_average_precision(total), 4),
        }


def prompt_sensitivity(segmenter: Segmenter, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Compare the predictions for a thing's own and for another thing's phrase with its mask.

    A thing is an object of a scene. The floor is the score of marking all things for every phrase.
    """
    tallies = {name: Tally() for name in ("own phrase", "another's phrase", "all things (floor)")}
    for scene in track(scenes, "prompt sensitivity"):
        phrases = [f"{thing.colour} {_name(thing)}" for thing in scene.things]
        if len(set(phrases)) < max(2, len(phrases)):
            continue  # every phrase must refer to a single thing
        probabilities = segmenter(scene.image, phrases).probability
        all_things = np.any([thing.mask for thing in scene.things], 0).astype(np.float32)
        for index, thing in enumerate(scene.things):
            other = (index + 1) % len(scene.things)
            tallies["own phrase"].add(probabilities[index], thing.mask)
            tallies["another's phrase"].add(probabilities[other], thing.mask)
            tallies["all things (floor)"].add(all_things, thing.mask)
    return {name: tally.numbers() for name, tally in tallies.items()}


def kinds(segmenter: Segmenter, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Prompt with the name of every visible kind; evaluate groups of kinds separately."""
    tallies = {group: Tally() for group in _GROUPS}
    for scene in track(scenes, "kinds"):
        present = sorted({thing.kind for thing in scene.things})
        prompts = [f"a photo of a {kind_name(kind)}." for kind in present]
        probabilities = segmenter(scene.image, prompts).probability if present else ()
        for kind, probability in zip(present, probabilities, strict=True):
            target = np.any([thing.mask for thing in scene.things if thing.kind == kind], 0)
            tallies[_group(kind)].add(probability, target)
    return {group: tally.numbers() for group, tally in tallies.items()}


def _group(kind: str) -> str:
    """Return the name of the group of kinds, one of `_GROUPS`."""
    if kind in PASCAL_KINDS:
        return "fold 0" if kind in FOLD_0 else "other Pascal kinds"
    return "invented kinds, never named" if kind in UNNAMED_KINDS else "invented kinds"


def properties(segmenter: Segmenter, scenes: Sequence[Scene]) -> dict[str, Any]:
    """Evaluate affordances, attributes and parts on scenes where some but not all things match."""
    tallies = {text: Tally() for text in PROMPTS.values()}
    floor = {text: Tally() for text in PROMPTS.values()}
    for scene in track(scenes, "properties"):
        probabilities = segmenter(scene.image, list(PROMPTS.values())).probability
        for (prompt, text), probability in zip(PROMPTS.items(), probabilities, strict=True):
            matching = [
                thing.mask for thing in scene.things if prompt in properties_of(thing.parts)
            ]
            if matching and len(matching) < len(scene.things):
                all_things = np.any([thing.mask for thing in scene.things], 0)
                tallies[text].add(probability, np.any(matching, 0))
                floor[text].add(all_things.astype(np.float32), np.any(matching, 0))
    return {
        text: tally.numbers() | {"all things (floor)": floor[text].numbers().get("miou@0.3", 0.0)}
        for text, tally in tallies.items()
    }


def _name(thing: Thing) -> str:
    return NAMES[thing.variant][0]


def measure(folders: Mapping[str, Path], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return all metrics of the models of one seed."""
    models = {
        name: Segmenter.from_pretrained(folder / "checkpoints" / "last.ckpt")
        for name, folder in folders.items()
    }
    return {
        "prompt sensitivity": prompt_sensitivity(models["pc_plus"], scenes),
        "kinds, fold 0 named in training": kinds(models["pc_plus"], scenes),
        "kinds, fold 0 never named": kinds(models["without_fold_0"], scenes),
        "properties": properties(models["pc_plus"], scenes),
    }


def summary(figures: Sequence[Any]) -> Any:  # noqa: ANN401 - the shape of the figures
    """Return mean, minimum and maximum of every number over the seeds."""
    if isinstance(figures[0], dict):
        return {key: summary([one[key] for one in figures]) for key in figures[0]}
    return {
        "mean": round(statistics.fmean(figures), 4),
        "min": min(figures),
        "max": max(figures),
    }


def main() -> None:
    """Parse the command line, measure the models, and write the metrics."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/tables/toy"), help="folder of the trainings"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scenes", type=int, default=200, help="number of held-out scenes")
    args = parser.parse_args()
    scenes = [
        draw_scene(np.random.default_rng((_SEED, index)), 128) for index in range(args.scenes)
    ]
    folders = {
        seed: {name: find_run(args.runs, name, seed) for name in MODELS} for seed in args.seeds
    }
    seeds = {str(seed): measure(found, scenes) for seed, found in folders.items()}
    fits = {
        f"{name}-{seed}": newest_results(folder, "fit")
        for seed, found in folders.items()
        for name, folder in found.items()
    }
    content = {
        "command": " ".join(["python", "experiments/toy_claims.py", *sys.argv[1:]]),
        "scenes": args.scenes,
        "things_per_scene": statistics.fmean(len(scene.things) for scene in scenes),
        "over_seeds": summary(list(seeds.values())),
        "seeds": seeds,
        "trainings": {
            name: {key: result[key] for key in ("commit", "dirty", "config_hash", "step")}
            for name, result in fits.items()
            if result  # always; `find_run` has checked it
        },
        **provenance(),
    }
    file = HERE / "results" / "toy_claims.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content["over_seeds"], indent=1))
    print(f"results: {file}")


if __name__ == "__main__":
    main()
