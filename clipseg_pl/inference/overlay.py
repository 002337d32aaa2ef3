"""Masks laid over a photo, with a legend."""

import colorsys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clipseg_pl.images import RGB

# distinct also for most colour-blind readers (Okabe and Ito's palette)
COLOURS = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)
_STRENGTH = 0.55
_GOLDEN = (5**0.5 - 1) / 2  # steps of it never meet a hue again
_LEAST_WIDTH = 200  # pixels, for the legend
_LINE = 14, 40  # pixels, least and most
_MOST_LINES = 20


def colour(position: int) -> tuple[int, int, int]:
    """RGB of a prompt by its position, from 0; of the first 255 no two are equal."""
    if position < len(COLOURS):
        return COLOURS[position]
    bright = 0.95 if position % 2 else 0.65
    red, green, blue = colorsys.hsv_to_rgb(position * _GOLDEN % 1, 0.6, bright)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_overlay(photo: RGB, masks: npt.NDArray[np.bool_], prompts: Sequence[str]) -> Image.Image:
    """Tint the masks and name their colours in a strip below the photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        masks: (P, H, W) bool; where they overlap, colours mix. Of one that is empty the legend
            says that it was not found.
        prompts: P names; they are cut where the strip ends. Of more than fit in 20 lines those
            that were found come first, and the last line counts the rest.
    """
    tinted = photo.copy()
    for position, mask in enumerate(masks):
        mixed = (1 - _STRENGTH) * tinted[mask] + _STRENGTH * np.array(colour(position))
        tinted[mask] = mixed.round().astype(np.uint8)
    height, width = photo.shape[:2]
    line = min(max(_LINE[0], height // 24), _LINE[1])
    found = [bool(mask.any()) for mask in masks]
    listed, folded = list(range(len(prompts))), ""
    if len(prompts) > _MOST_LINES:
        listed.sort(key=lambda position: not found[position])  # else in their order
        rest, listed = listed[_MOST_LINES - 1 :], listed[: _MOST_LINES - 1]
        folded = f"and {len(rest)} more, {sum(found[position] for position in rest)} found"
    rows = len(listed) + bool(folded)
    size = max(width, _LEAST_WIDTH), height + line * rows + line // 2
    canvas = Image.new("RGB", size, "white")
    canvas.paste(Image.fromarray(tinted))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(line * 0.75)
    room = size[0] - line - 12
    for row, position in enumerate(listed):
        top, here = height + line // 4 + row * line, found[position]
        square = (4, top + 2, 4 + line - 4, top + line - 2)
        draw.rectangle(square, colour(position) if here else None, colour(position))
        words, ending = " ".join(prompts[position].split()), "" if here else ": not found"
        text = _fit(words, ending, room, font)
        draw.text((line + 8, top), text, fill="black" if here else "grey", font=font)
    if folded:
        top = height + line // 4 + len(listed) * line
        draw.text((line + 8, top), _fit(folded, "", room, font), fill="black", font=font)
    return canvas


def _fit(
    text: str, ending: str, room: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """Cut words, never their ending, so that both are no wider than there is room, in pixels."""
    text = text[:room]  # no letter is narrower than a pixel
    if font.getlength(text + ending) <= room:
        return text + ending
    while text and font.getlength(f"{text}...{ending}") > room:
        text = text[:-1]
    return f"{text}...{ending}"
