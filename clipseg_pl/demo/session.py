"""What the page asks of the segmenter, and how it shows the answer; knows nothing of Gradio."""

import re
import zipfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clipseg_pl.images import RGB, load_photo
from clipseg_pl.inference.overlay import COLOURS
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.segmenter import EncodedPhoto, Segmenter
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt

LONGEST_SIDE = 1024
"""of photos on the page, in pixels: moving a threshold redraws the picture at once"""
MOST_PROMPTS = len(COLOURS)
"""at once: every prompt has a colour of its own"""
_PAINTED = 32  # opacity of 255; the brush is translucent, its edge more so


class SeenPhoto(NamedTuple):
    """A photo, and what the segmenter keeps of it."""

    photo: RGB
    encoded: EncodedPhoto


def see(segmenter: Segmenter, file: Path) -> SeenPhoto:
    """Encode a photo; one larger than the page shows is made smaller first.

    Raises:
        ValueError: naming the file, if it cannot be read.
    """
    try:
        photo = load_photo(file)
    except (OSError, ValueError) as error:
        # where the page keeps uploads means nothing to who chose the photo
        raise ValueError(str(error).replace(str(file), file.name)) from error
    if max(photo.shape) > LONGEST_SIDE:
        image = Image.fromarray(photo)
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        photo = np.array(image)
    return SeenPhoto(photo, segmenter.encode(photo))


def ask(segmenter: Segmenter, seen: SeenPhoto, prompts: Sequence[Prompt]) -> Segmentation:
    """Segment a photo that was seen.

    Raises:
        ValueError: for no or too many prompts.
    """
    if not prompts:
        raise ValueError("Type what to look for, or paint an example of it.")
    if len(prompts) > MOST_PROMPTS:
        raise ValueError(
            f"The page shows {MOST_PROMPTS} things at once, in a colour each; these are "
            f"{len(prompts)}."
        )
    return segmenter.segment(seen.encoded, prompts)


def list_prompts(
    words: str, example: ImagePrompt | None, example_words: str, weight: float
) -> list[Prompt]:
    """All that the page's fields ask for.

    Args:
        words: phrases between commas, semicolons or line breaks.
        example: what was painted, if anything was.
        example_words: what the example is called, to be blended with it; may be empty.
        weight: of these words, 0 to 1.
    """
    prompts: list[Prompt] = [*split_phrases(words)]
    if example is not None:
        phrase = " ".join(example_words.split())
        prompts.append(Blend(phrase, example, weight) if phrase else example)
    return prompts


def split_phrases(words: str) -> list[str]:
    """Phrases between commas, semicolons or line breaks, each once."""
    phrases = (" ".join(phrase.split()) for phrase in re.split(r"[,;\n]", words))
    return list(dict.fromkeys(filter(None, phrases)))


def read_example(editor: Mapping[str, Any] | None) -> ImagePrompt:
    """What was painted on the support image.

    Args:
        editor: `background`, (H, W, 4) uint8 or None, transparent around an image of another
            shape than the canvas; and `layers` of strokes, (H, W, 4) uint8.

    Raises:
        ValueError: for no image, or none painted on.
    """
    background = None if editor is None else editor["background"]
    # an empty canvas is white, or nothing
    if editor is None or background is None or background.min() == 255 or not background.any():
        raise ValueError("Choose an image to paint on first.")
    rows, columns = (np.flatnonzero(background[..., 3].any(axis)) for axis in (1, 0))
    image = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    strokes = [layer[..., 3][image] >= _PAINTED for layer in editor["layers"]]
    mask = np.any(strokes, 0)
    if not mask.any():
        raise ValueError("Nothing is painted: paint over what you mean.")
    return ImagePrompt(load_photo(background[image]), mask=mask)


_LONGEST_NAME = 60


def write_table(segmentation: Segmentation) -> str:
    """HTML: each prompt with its colour, how surely it is there, and how much it covers."""
    rows = [
        "<tr><th>Prompt</th><th>Presence</th><th class='number'>Covers</th></tr>",
    ]
    for position, (prompt, mask) in enumerate(
        zip(segmentation.prompts, segmentation.masks, strict=True)
    ):
        presence = f"{segmentation.presence[position]:.0%}"
        covers = f"{mask.mean():.1%}" if mask.any() else "not found"
        colour = "#{:02x}{:02x}{:02x}".format(*COLOURS[position % len(COLOURS)])
        bar = f"<b style='width:{presence};background:{colour}'></b>"
        rows.append(
            f"<tr><td><i style='background:{colour}'></i>{escape(prompt)}</td>"
            f"<td><span class='bar'>{bar}</span>{presence}</td>"
            f"<td class='number'>{covers}</td></tr>"
        )
    return f"<table class='prompts'>{''.join(rows)}</table>"


def write_masks(segmentation: Segmentation, overlay: Image.Image, folder: Path) -> Path:
    """A zip of the masks (PNG, 0 or 255, at the size shown) and of the overlay.

    Args:
        segmentation: with the thresholds that are shown.
        overlay: with its legend; a JPEG in the zip, as PNG would take most of the time here.
        folder: to write `masks.zip` to.
    """
    file = folder / "masks.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number, (prompt, mask) in enumerate(
            zip(segmentation.prompts, segmentation.masks, strict=True), start=1
        ):
            name = re.sub(r"\W+", "_", prompt.lower()).strip("_")[:_LONGEST_NAME]
            with archive.open(f"{number}_{name}.png", "w") as entry:
                Image.fromarray(mask).convert("L").save(entry, "PNG")
        with archive.open("overlay.jpg", "w") as entry:
            overlay.save(entry, "JPEG", quality=90)
    return file
