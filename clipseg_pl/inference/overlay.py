"""Draw masks and a legend on a photo."""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from clipseg_pl.images import RGB

# distinguishable for most colour-blind readers (Okabe and Ito's palette)
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
_GOLDEN = (5**0.5 - 1) / 2  # hue step; the golden ratio is irrational, so hues never repeat
_MIN_WIDTH = 200  # pixels, so that the legend is readable
_LINE = 14, 40  # minimum and maximum height of a legend line in pixels
_MAX_LINES = 20


def colour(position: int) -> tuple[int, int, int]:
    """Return the RGB colour of a prompt by its position, from 0; the first 255 are distinct."""
    if position < len(COLOURS):
        return COLOURS[position]
    bright = 0.95 if position % 2 else 0.65
    red, green, blue = colorsys.hsv_to_rgb(position * _GOLDEN % 1, 0.6, bright)
    return round(red * 255), round(green * 255), round(blue * 255)


def tint(photo: RGB, mask: npt.NDArray[np.bool_], position: int) -> RGB:
    """Return a copy of a photo in which a mask is tinted.

    Args:
        photo: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.
        position: position of the prompt, which gives the colour.
    """
    mixed = (1 - _STRENGTH) * np.arange(256)[:, None] + _STRENGTH * np.array(colour(position))
    table = mixed.round().astype(np.uint8)[None]  # 1 256 3
    return np.where(mask[..., None], np.asarray(cv2.LUT(photo, table)), photo)


def draw_overlay(photo: RGB, masks: npt.NDArray[np.bool_], prompts: Sequence[str]) -> Image.Image:
    """Tint the masks in a photo and add a legend below it.

    Args:
        photo: (H, W, 3) uint8 RGB.
        masks: (P, H, W) bool. Colours mix where masks overlap. The legend marks prompts with an
            empty mask as not found.
        prompts: P names, truncated to the width of the legend. If there are more than 20, the
            legend lists 19 of them, found prompts first, and its last line counts the rest.
    """
    tinted = photo
    for position, mask in enumerate(masks):
        tinted = tint(tinted, mask, position)
    height, width = photo.shape[:2]
    line = min(max(_LINE[0], height // 24), _LINE[1])
    found = [bool(mask.any()) for mask in masks]
    listed, folded = list(range(len(prompts))), ""
    if len(prompts) > _MAX_LINES:
        listed.sort(key=lambda position: not found[position])  # stable
        rest, listed = listed[_MAX_LINES - 1 :], listed[: _MAX_LINES - 1]
        folded = f"and {len(rest)} more, {sum(found[position] for position in rest)} found"
    rows = len(listed) + bool(folded)
    size = max(width, _MIN_WIDTH), height + line * rows + line // 2
    canvas = Image.new("RGB", size, "white")
    canvas.paste(Image.fromarray(tinted))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(line * 0.75)
    room = size[0] - line - 12
    for row, position in enumerate(listed):
        top, here = height + line // 4 + row * line, found[position]
        square = (4, top + 2, 4 + line - 4, top + line - 2)
        draw.rectangle(square, colour(position) if here else None, colour(position))
        words, ending = " ".join(prompts[position].split()), "" if here else ": not found"
        text = fit_text(words, ending, room, font)
        draw.text((line + 8, top), text, fill="black" if here else "grey", font=font)
    if folded:
        top = height + line // 4 + len(listed) * line
        draw.text((line + 8, top), fit_text(folded, "", room, font), fill="black", font=font)
    return canvas


def fit_text(
    text: str, ending: str, room: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """Truncate the text, but not its ending, so that both fit into `room` pixels of a line."""
    text = text[:room]  # characters are at least one pixel wide
    if font.getlength(text + ending) <= room:
        return text + ending
    while text and font.getlength(f"{text}...{ending}") > room:
        text = text[:-1]
    return f"{text}...{ending}"
