"""Draw the first picture of the README: typical predictions of the toy decoder on unseen scenes.

    python experiments/readme_picture.py

Writes `docs/predictions.png`. Each row is the median case, by IoU, of one group of prompts on the
test split of the toy world's PhraseCut, at the paper's threshold of 0.3:

1. phrases of one word,
2. phrases of several words,
3. visual prompts: another image with the same phrase, and its mask,
4. phrases that are absent from the image; the row is the median case by area of the prediction.
"""

import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.progress import track

from clipseg_pl.images import RGB
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.metrics.functional import PAPER_THRESHOLD
from clipseg_pl.prompts.image_prompt import ImagePrompt, Prompt
from clipseg_pl.prompts.visual import Mask
from clipseg_pl.weights.places import TOY
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.toy.world import toy_root, write_toy_world

OUT = Path(__file__).parents[1] / "docs" / "predictions.png"
SIDE, GAP, TITLE = 220, 8, 30  # pixels
COLOUR = np.array((225, 50, 30), np.float32)


class Case(NamedTuple):
    """One prompt on one image, ranked by IoU or, for absent phrases, by area of the prediction."""

    score: float
    image: RGB
    prompt: str | RGB
    target: Mask
    prediction: Mask


def predict(segmenter: Segmenter, source: PhraseCut) -> dict[str, list[Case]]:
    """Segment every image by a phrase, by an absent phrase and, if possible, by a support image."""
    rng = np.random.default_rng(0)
    cases: dict[str, list[Case]] = {"one word": [], "several words": [], "visual": [], "absent": []}
    for task in track(range(len(source)), "segmenting"):
        image, target, row = source.image(task), source.mask(task), source.phrase(task)
        phrase, present = source.phrases[row], source.possible_phrases(task)
        absent = source.phrases[int(rng.choice(np.setdiff1d(range(len(source.phrases)), present)))]
        prompts: list[Prompt] = [phrase, absent]
        others = source.tasks_of_phrase(row)
        if len(others := others[others != task]):
            other = int(rng.choice(others))
            support = source.image(other), source.mask(other)
            prompts.append(ImagePrompt(*support))
        masks = segmenter(image, prompts).probability > PAPER_THRESHOLD
        group = "several words" if " " in phrase else "one word"
        cases[group].append(Case(iou(masks[0], target), image, f'"{phrase}"', target, masks[0]))
        nothing = np.zeros_like(target)
        label = f'"{absent}" (absent)'
        cases["absent"].append(Case(float(masks[1].mean()), image, label, nothing, masks[1]))
        if len(others):
            shown = tint(*support)
            cases["visual"].append(Case(iou(masks[2], target), image, shown, target, masks[2]))
    return cases


def iou(prediction: Mask, target: Mask) -> float:
    """Intersection over union of two masks."""
    return float((prediction & target).sum() / (prediction | target).sum())


def tint(image: RGB, mask: Mask) -> RGB:
    """Colour a mask and fade the rest of its image."""
    drawn = 0.35 * image.astype(np.float32) + 0.65 * 255
    drawn[mask] = 0.25 * image[mask] + 0.75 * COLOUR
    return drawn.round().astype(np.uint8)


def write(words: str) -> Image.Image:
    """Write a text prompt into a cell."""
    cell, text = Image.new("RGB", (SIDE, SIDE), "white"), "\n".join(textwrap.wrap(words, 16))
    font, centre = ImageFont.load_default(24), (SIDE / 2, SIDE / 2)
    ImageDraw.Draw(cell).multiline_text(centre, text, "black", font, "mm", align="center")
    return cell


def draw(cases: list[Case]) -> Image.Image:
    """Draw a row of four cells for each case, below a line of titles."""
    step, font = SIDE + GAP, ImageFont.load_default(18)
    canvas = Image.new("RGB", (4 * step - GAP, TITLE + len(cases) * step - GAP), "white")
    for column, title in enumerate(("query image", "prompt", "target", "prediction")):
        centre = (column * step + SIDE / 2, TITLE / 2)
        ImageDraw.Draw(canvas).text(centre, title, "black", font, "mm")
    for row, case in enumerate(cases):
        image, prompt = case.image, case.prompt
        cells = (
            Image.fromarray(image),
            write(prompt) if isinstance(prompt, str) else Image.fromarray(prompt),
            Image.fromarray(tint(image, case.target)),
            Image.fromarray(tint(image, case.prediction)),
        )
        for column, cell in enumerate(cells):
            canvas.paste(cell.resize((SIDE, SIDE)), (column * step, TITLE + row * step))
    return canvas


def main() -> None:
    """Segment the test split with the toy weights and draw the median case of each group."""
    write_toy_world(toy_root())
    segmenter = Segmenter.from_pretrained(TOY, device="cpu", precision="float32")
    medians = []
    for group, cases in predict(segmenter, PhraseCut(toy_root(), "test")).items():
        medians.append(sorted(cases, key=lambda case: case.score)[len(cases) // 2])
        name = "area" if group == "absent" else "IoU"
        print(f"{group}: {len(cases)} prompts, median {name} {medians[-1].score:.2f}")
    draw(medians).quantize(256).save(OUT, optimize=True)
    print(OUT)


if __name__ == "__main__":
    main()
