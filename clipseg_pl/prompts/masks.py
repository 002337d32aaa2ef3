"""Masks in pictures: by transparency, by the indices of a palette, or by brightness."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch import Tensor

from clipseg_pl.images import (
    DEEP,
    Picture,
    image_size,
    open_image,
    reopened,
    to_array,
    with_channels,
)
from clipseg_pl.prompts.visual import Mask

_LOSSY = {"AVIF", "HEIF", "JPEG", "JPEG2000", "MPO", "WEBP"}
"""formats that add noise; images that were converted since they were read count as others"""
_NOISE = 32
"""of 255; lossy formats change brightness by less, and shades that are closer count as one"""
_ROUNDING = 8
"""of 255; rounding moves a colour by less"""
_OVERSHOOT = 64
"""of 255; resizing moves the colour of an edge by less (45 measured, by Lanczos)"""
_CVAT_GREEN = (48, 112, 32)
"""of CVAT's first label, which became index 0 if no label was called background"""


def load_mask(picture: Picture) -> Mask:
    """Read what a picture marks as a mask: (H, W) bool.

    The first that applies decides:

    - Transparency, if any pixel is fully transparent: what is opaque is marked.
    - A palette with colours: every index but 0 is marked.
    - Brightness: pixels above half of the brightest are marked, in an image of greys or of one
      colour on black, anti-aliased edges included. In JPEG, JPEG 2000, WebP, AVIF and HEIC,
      brightness below 32 of 255 is noise and marks nothing, unless it has two values only.

    Args:
        picture: values of any range: a file, a PIL image, an array with the channels last, or a
            tensor (H, W) or (1, 3 or 4, H, W).

    Raises:
        UnreadableImageError: naming the file that is no image, or can be read in several ways:
            several colours or indices, three or more whole numbers below 32, a palette whose index
            0 is more than twice as bright as the marked one.
        ValueError: the same of an image, an array or a tensor; also for NaN and other shapes.
        TypeError: something else.
    """
    if isinstance(picture, str | PathLike):
        with open_image(Path(picture).expanduser(), "mask") as image:
            return _of_image(image)
    if isinstance(picture, Image.Image):
        return _of_image(reopened(picture))
    if isinstance(picture, Tensor):
        return _of_numbers(to_array(picture))
    if isinstance(picture, np.ndarray):
        return _of_numbers(picture)
    raise TypeError(f"a mask is a file, a PIL image, an array or a tensor, not {type(picture)}")


def _of_image(image: Image.Image) -> Mask:
    lossy = image.format in _LOSSY or image.info.get("compression") == "jpeg"  # the last: TIFF
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(DEEP):
        return _of_numbers(np.asarray(image))
    if image.has_transparency_data:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        if not alpha.all():
            return np.asarray(alpha > 127)
    if image.mode == "P":
        palette = np.zeros((256, 3), np.uint8)
        flat = image.getpalette("RGB") or []
        palette.flat[: len(flat)] = flat
        indices = np.asarray(image)
        used = np.union1d(0, np.flatnonzero(np.bincount(indices.ravel())))
        if np.ptp(palette[used], axis=1).any():
            return _numbered(indices, used[1:], palette)
    grey = image.mode in ("1", "L", "LA", "P")
    return _of_numbers(np.asarray(image.convert("L" if grey else "RGB")), lossy)


def _of_numbers(numbers: npt.NDArray[Any], lossy: bool = False) -> Mask:
    image = with_channels(numbers)
    if image.dtype.kind not in "biuf" or not np.isfinite(image).all():
        raise ValueError("a mask has real numbers, all of them finite")
    if image.shape[2] == 4:
        alpha, image = image[..., 3], image[..., :3]
        if not alpha.all():
            return np.asarray(alpha > (255 if alpha.dtype == np.uint8 else alpha.max()) / 2)
    bright = image[..., 0]
    if not all(np.array_equal(bright, image[..., other]) for other in range(1, image.shape[2])):
        bright = image.max(2)
        if not _one_colour(image, lossy):
            raise _ambiguous("several colours")
    highest = max(bright.max(), 0)
    if bright.dtype.kind in "iu" and highest < _NOISE and len(np.unique(bright)) > 2:
        if lossy:
            return np.zeros(bright.shape, np.bool_)
        raise _ambiguous(f"several values, {bright.min()} to {highest}, like a map of labels")
    return np.asarray(bright > highest / 2)


def _numbered(
    indices: npt.NDArray[np.uint8], numbers: npt.NDArray[np.int64], palette: npt.NDArray[np.uint8]
) -> Mask:
    """Mark the only index besides 0, the background.

    Quantising gives index 0 to a bright object on black. CVAT alone is known to have written a
    background brighter than its objects (https://github.com/cvat-ai/cvat/issues/1736).
    """
    if len(numbers) > 1:
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if numbers[5:].size else "")
        raise _ambiguous(f"a palette of colours and {len(numbers)} numbers beside 0, {listed}")
    background = tuple(palette[0].tolist())
    if (palette[numbers].max(1) < max(background) / 2).any() and background != _CVAT_GREEN:
        raise ValueError(
            f"the mask's palette has the colour {background} at index 0, the background, and a "
            f"darker one at index {numbers[0]}, so either may be the object: save the mask white "
            "on black, mode L"
        )
    return np.asarray(indices > 0)


def _one_colour(image: npt.NDArray[Any], lossy: bool) -> bool:
    """Whether an image (H, W, 3) is one colour on black; edges are darker shades of it.

    Resizing overshoots at edges, which changes the ratio of the channels where one of them is cut
    off at 255. So edges may differ by more than the flat parts of an image.
    """
    image = _flat_blocks(image) if lossy else image
    channels = [np.ascontiguousarray(image[..., channel], np.float32) for channel in range(3)]
    bright = image.max(2).astype(np.float32)
    highest = float(bright.max(initial=0))
    if not highest:
        return True
    flat = np.full(bright.shape, lossy)
    if not lossy:
        around = np.ones((3, 3), np.uint8)
        flat = np.all([cv2.dilate(one, around) == cv2.erode(one, around) for one in channels], 0)
    shades = bright[flat] * (255 / highest)
    if ((shades >= _NOISE) & (shades <= 255 - _NOISE)).any():
        return False
    brightest = (bright * flat if shades.any() else bright).argmax()
    most = np.where(flat, _NOISE if lossy else _ROUNDING, _OVERSHOOT) * np.float32(highest / 255)
    shares = [one.flat[brightest] / bright.flat[brightest] for one in channels]
    pairs = zip(channels, shares, strict=True)
    return not any((np.abs(one - bright * share) > most).any() for one, share in pairs)


def _flat_blocks(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Mean colours (N, 1, 3) of blocks of 8 x 8 pixels without edges, where colours are blurred."""
    height, width = (side // 8 for side in image.shape[:2])
    blocks = image[: height * 8, : width * 8].reshape(height, 8, width, 8, 3)
    blocks = blocks.swapaxes(1, 2).reshape(-1, 64, 3)  # H8 8 W8 8 3 -> H8 W8 8 8 3 -> N 64 3
    return np.asarray(blocks[np.ptp(blocks.max(2), axis=1) < _NOISE].mean(1)[:, None])


def _ambiguous(what: str) -> ValueError:
    return ValueError(
        f"the mask has {what}, and nothing says which is meant: give a mask of one thing, white on "
        "black, or, in a table of own data, a map of numbers (mode L or P) with one named as "
        "`label`"
    )


def exif_note(found: Sequence[int], wanted: Sequence[int], *pictures: Picture) -> str:
    """Explain, for a message, two sizes that differ by an EXIF orientation.

    Args:
        found: height and width.
        wanted: what they should be.
        pictures: which may be turned: files, or images of PIL.

    Returns:
        "; " and what turns the first turned picture and what to do. Empty unless the two sizes have
        their sides exchanged and a picture is turned.
    """
    if list(found) != list(wanted)[::-1]:
        return ""
    for picture in pictures:
        stored, shown = _stored_and_shown(picture)
        if stored and shown and stored != shown:
            name = picture if isinstance(picture, str | PathLike) else "the image"
            return (
                f"; {name} is stored as {stored[1]} x {stored[0]} pixels (width x height) and its "
                f"EXIF orientation turns it to {shown[1]} x {shown[0]}: save it again as it was "
                "annotated, without the EXIF orientation"
            )
    return ""


def _stored_and_shown(picture: Picture) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Height and width as stored and as viewers show them."""
    if isinstance(picture, str | PathLike):
        file = Path(picture).expanduser()
        return image_size(file), image_size(file, upright=True)
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        return (picture.height, picture.width), (upright.height, upright.width)
    return None, None
