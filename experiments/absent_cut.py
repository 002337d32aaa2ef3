"""Measure benefit and cost of the shipped toy decoder's absent cut on text prompts.

    python experiments/absent_cut.py

The absent cut is the presence score below which a prompt is considered absent from the image and
its mask is emptied. The script evaluates every phrase of the toy world's test split at the paper's
threshold, together with a phrase that is absent from the image (negative). The test split was used
neither to select the weights nor to calibrate the cut. The metrics are written to
experiments/results/absent_cut.json.
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
    """Evaluate without a cut, with half the stored cut, and with the stored cut.

    Args:
        segmenter: Model with its stored cut.
        source: Phrases with their masks.

    Returns:
        Name of the cut -> `cut`: its value; `miou@0.3`: mIoU of the present phrases; `dropped`:
        share of the present phrases that are considered absent; `absent_rate@0.3`: share of the
        negatives that are not considered absent and have a pixel above the threshold.
    """
    prompts = PromptedDataset(source, Prompting(supports=False), segmenter.image_size, False, 0)
    ious, present_scores = [], []
    has_pixels: list[bool] = []
    absent_scores: list[float] = []
    for task in track(range(len(source)), "evaluating"):
        phrases = [prompt["phrase"] for prompt in prompts[(0, task)]["prompts"]]
        result = segmenter(source.image(task), phrases)
        predicted = result.probability > PAPER_THRESHOLD
        mask = source.mask(task)
        ious.append((predicted[0] & mask).sum() / (predicted[0] | mask).sum())
        present_scores.append(result.presence[0])
        has_pixels += [bool(mask.any()) for mask in predicted[1:]]
        absent_scores += result.presence[1:].tolist()
    present, absent = np.array(present_scores), np.array(absent_scores)
    cuts = {"none": 0.0, "half": segmenter.absent_cut / 2, "stored": segmenter.absent_cut}
    return {
        name: {
            "cut": cut,
            "miou@0.3": float(np.where(present < cut, 0, ious).mean()),
            "dropped": float((present < cut).mean()),
            "absent_rate@0.3": float((np.array(has_pixels) & (absent >= cut)).mean()),
        }
        for name, cut in cuts.items()
    }


def main() -> None:
    """Measure the shipped decoder and write the metrics."""
    write_toy_world(toy_root())
    segmenter = Segmenter.from_pretrained(
        TOY, absent_cut="stored", device="cpu", precision="float32"
    )
    metrics = measure(segmenter, PhraseCut(toy_root(), "test"))
    OUT.write_text(json.dumps({**metrics, **provenance()}, indent=1) + "\n")
    for name, values in metrics.items():
        print(name, {key: round(value, 3) for key, value in values.items()})
    print(OUT)


if __name__ == "__main__":
    main()
