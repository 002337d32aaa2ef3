"""What the absent cut of a checkpoint gives and costs, asked by words; writes the figures.

    python experiments/absent_cut.py

Every phrase of the toy world's test split, which chose neither the weights nor the cut, and beside
each one that is not annotated on its photo, as `segment` answers them at the paper's threshold.
"""

import json
from pathlib import Path

import numpy as np
from rich.progress import track

from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.metrics.functional import PAPER_THRESHOLD
from clipseg_pl.training.callbacks.results import provenance
from clipseg_pl.weights.places import TOY
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.toy.world import toy_root, write_toy_world

OUT = Path(__file__).parent / "results" / "absent_cut.json"


def measure(segmenter: Segmenter, source: PhraseCut) -> dict[str, dict[str, float]]:
    """Shares and mIoU at no cut, half the kept one, and the kept one.

    Args:
        segmenter: with its kept cut.
        source: phrases with their masks.

    Returns:
        Name of the cut -> its value; mIoU of what is there; share of it taken to be absent; share
        of absent phrases that get any pixel.
    """
    prompts = PromptedDataset(source, Prompting(supports=False), segmenter.image_size, False, 0)
    ious, presences = [], []
    fills: list[bool] = []
    scores: list[float] = []
    for task in track(range(len(source)), "asking"):
        asked = [prompt["phrase"] for prompt in prompts[(0, task)]["prompts"]]
        answer = segmenter(source.image(task), asked)
        found = answer.probability > PAPER_THRESHOLD
        mask = source.mask(task)
        ious.append((found[0] & mask).sum() / (found[0] | mask).sum())
        presences.append(answer.presence[0])
        fills += [bool(mask.any()) for mask in found[1:]]
        scores += answer.presence[1:].tolist()
    there, absent = np.array(presences), np.array(scores)
    cuts = {"none": 0.0, "half": segmenter.absent_cut / 2, "kept": segmenter.absent_cut}
    return {
        name: {
            "cut": cut,
            "miou@0.3": float(np.where(there < cut, 0, ious).mean()),
            "dropped": float((there < cut).mean()),
            "absent_rate@0.3": float((np.array(fills) & (absent >= cut)).mean()),
        }
        for name, cut in cuts.items()
    }


def main() -> None:
    """Measure the shipped decoder."""
    write_toy_world(toy_root())
    segmenter = Segmenter.from_checkpoint(TOY, absent_cut="kept", device="cpu", precision="float32")
    numbers = measure(segmenter, PhraseCut(toy_root(), "test"))
    OUT.write_text(json.dumps({**numbers, **provenance()}, indent=1) + "\n")
    for name, found in numbers.items():
        print(name, {key: round(value, 3) for key, value in found.items()})
    print(OUT)


if __name__ == "__main__":
    main()
