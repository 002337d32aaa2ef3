"""Masks in pictures: what is bright, of one colour, or not number 0 of a palette."""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps
from torch import Tensor

from clipseg_pl.images import DEEP, Picture, UnreadableImageError, open_image
from clipseg_pl.pixel_values import with_channels
from clipseg_pl.prompts.visual import Mask

_NOISE = 32
"""of 255; what is nowhere as bright as this shows nothing, as an empty mask behind a JPEG"""
_GREY = 8
"""of 255; colours whose channels differ by no more are greys"""
_SAME_HUE = 30
"""degrees of the colour circle; what a JPEG makes of one hue lies within, most of it"""
_STRAY = 0.02
"""share of what is lit that a JPEG moves out of it, at most"""
_ENOUGH = 0.1
"""share of what is lit from which on white beside a colour is no JPEG's doing"""
_LOOKED_AT = 1_000_000
"""pixels whose colours are compared"""
_ONE_THING = "give a mask of one thing, white on black"


def load_mask(picture: Picture) -> Mask:
    """What a picture marks as a mask: (H, W) bool.

    - Where part of it is transparent, what is not; painted layers are such images.
    - Where its palette has colours, every index but 0, the background.
    - Else what is bright: above half of its brightest. An image of 8 bits that nowhere reaches 32
      of 255 marks nothing, unless it has two values only, as masks of 0 and 1 do.

    Numbers of any range will do, in a tensor (H, W) or (1, 3 or 4, H, W), an array with the
    channels last, or a TIFF.

    Raises:
        UnreadableImageError: naming the file that is no image, or means several things.
        ValueError: the same of an image, an array or a tensor; also for NaN and other shapes.
        TypeError: something else.
    """
    if isinstance(picture, str | PathLike):
        file = Path(picture).expanduser()
        with open_image(file, "mask") as image:
            pass
        try:
            return _of_image(image)
        except (OSError, ValueError, MemoryError) as error:
            raise UnreadableImageError(f"{file}: {error}") from error
    if isinstance(picture, Image.Image):
        return _of_image(picture)
    if isinstance(picture, Tensor):
        numbers = picture.detach().cpu()
        numbers = numbers.float() if numbers.dtype == torch.bfloat16 else numbers  # numpy has none
        return _of_numbers((numbers.movedim(0, -1) if numbers.ndim == 3 else numbers).numpy())
    if isinstance(picture, np.ndarray):
        return _of_numbers(picture)
    raise TypeError(f"a mask is a file, a PIL image, an array or a tensor, not {type(picture)}")


def _of_image(image: Image.Image) -> Mask:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(DEEP):
        return _of_numbers(np.asarray(upright))
    if upright.has_transparency_data:
        return _of_numbers(np.asarray(upright.convert("RGBA")))
    if upright.mode == "P" and _has_colours(upright):
        return _numbered(np.asarray(upright))
    return _of_numbers(np.asarray(upright if upright.mode == "L" else upright.convert("RGB")))


def _of_numbers(numbers: npt.NDArray[Any]) -> Mask:
    image = with_channels(numbers)
    if image.dtype.kind not in "biuf" or not np.isfinite(image.max()):
        raise ValueError("a mask has real numbers, all of them finite")
    if image.shape[2] == 4:
        alpha, image = image[..., 3], image[..., :3]
        if not alpha.all():
            return np.asarray(alpha >= (255 if image.dtype == np.uint8 else alpha.max()) / 2)
    bright = image.max(2)
    highest = max(bright.max(), 0)
    if bright.dtype == np.uint8 and highest < _NOISE and len(np.unique(bright)) > 2:
        return np.zeros(bright.shape, np.bool_)
    if image.shape[2] == 3 and _several_colours(image, highest):
        raise ValueError(
            f"the mask has several colours, and nothing says which is meant: {_ONE_THING}, or, in "
            "a table of own data, a map of numbers (mode L or P) with one named as `label`"
        )
    return np.asarray(bright > highest / 2)


def _has_colours(image: Image.Image) -> bool:
    """Whether the palette of an image has colours, in the entries that count."""
    flat = (image.getpalette("RGB") or [])[: 256 * 3]
    palette = np.zeros((256, 3), np.int64)
    palette.flat[: len(flat)] = flat
    used = np.bincount(np.asarray(image).ravel(), minlength=256) > 0
    used[0] = True  # the background, if everything is marked
    return bool(np.ptp(palette[used], axis=1).max() > _GREY)


def _numbered(indices: npt.NDArray[np.uint8]) -> Mask:
    """What is not background, if that is one thing."""
    numbers = np.flatnonzero(np.bincount(indices.ravel())[1:]) + 1
    if len(numbers) > 1:
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if numbers[5:].size else "")
        raise ValueError(
            f"the mask has a palette of colours and {len(numbers)} numbers beside the background, "
            f"{listed}, and nothing says which is meant: {_ONE_THING}, or name one as `label` in a "
            "table of own data"
        )
    return np.asarray(indices > 0)


def _several_colours(image: npt.NDArray[Any], highest: float) -> bool:
    """Whether an image (H, W, 3) is more than one colour on black.

    Edges are darker shades of a hue; what a JPEG does to some of them is let pass.
    """
    pixels = image.reshape(-1, 3)
    pixels = pixels[:: 1 + len(pixels) // _LOOKED_AT] / (float(highest) or 1.0)
    lit = pixels[pixels.max(1) > 1 / 4]
    bright, chroma = lit.max(1), np.ptp(lit, axis=1)
    saturation = chroma / bright
    coloured = saturation > 1 / 4
    if not coloured.any():
        return False
    white = (saturation < 1 / 8) & (bright > 1 / 2)
    if white.mean() > _ENOUGH and (saturation > 1 / 2).mean() > _ENOUGH:
        return True
    (red, green, blue), bright, chroma = lit[coloured].T, bright[coloured], chroma[coloured]
    hue = 60 * np.select(
        [bright == red, bright == green],
        [(green - blue) / chroma % 6, (blue - red) / chroma + 2],
        (red - green) / chroma + 4,
    )
    most = 10 * np.bincount((hue // 10).astype(int) % 36).argmax() + 5
    away = np.abs((hue - most + 180) % 360 - 180)
    return bool((away > _SAME_HUE).sum() > _STRAY * len(lit))
