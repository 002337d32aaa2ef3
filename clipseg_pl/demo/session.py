"""What the page asks of the segmenter; knows nothing of the page."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from clipseg_pl.images import RGB, load_photo
from clipseg_pl.overlay import COLOURS
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt
from clipseg_pl.segmentation import Segmentation
from clipseg_pl.segmenter import EncodedPhoto, Segmenter

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
