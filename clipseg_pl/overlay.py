"""Masks laid over a photo, with a legend."""

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


def draw_overlay(photo: RGB, masks: npt.NDArray[np.bool_], prompts: Sequence[str]) -> Image.Image:
    """Tint the masks and name their colours in a strip below the photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        masks: (P, H, W) bool; where they overlap, colours mix.
        prompts: P names.
    """
    tinted = photo.astype(np.float32)
    for position, mask in enumerate(masks):
        colour = np.array(COLOURS[position % len(COLOURS)], np.float32)
        tinted[mask] = (1 - _STRENGTH) * tinted[mask] + _STRENGTH * colour
    height, width = photo.shape[:2]
    line = max(14, height // 24)
    canvas = Image.new("RGB", (width, height + line * len(prompts) + line // 2), "white")
    canvas.paste(Image.fromarray(tinted.round().astype(np.uint8)))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(line * 0.75)
    for position, prompt in enumerate(prompts):
        top = height + line // 4 + position * line
        square = (4, top + 2, 4 + line - 4, top + line - 2)
        draw.rectangle(square, fill=COLOURS[position % len(COLOURS)])
        draw.text((line + 8, top), prompt, fill="black", font=font)
    return canvas
