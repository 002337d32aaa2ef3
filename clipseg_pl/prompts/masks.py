"""Loading of masks from images, by transparency, palette index or brightness."""

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
    Readable,
    image_size,
    open_image,
    reopen_if_deep,
    to_array,
    with_channels,
)
from clipseg_pl.photo_files import is_url
from clipseg_pl.prompts.visual import Mask

_LOSSY = {"AVIF", "HEIF", "JPEG", "JPEG2000", "MPO", "WEBP"}
"""Lossy formats. A PIL image that was converted after reading has no format and counts as
lossless."""
_NOISE = 32
"""Lossy compression changes brightness by less than this (of 255). Shades that differ less count as
equal."""
_ROUNDING = 8
"""Rounding changes colours by at most this (of 255)."""
_OVERSHOOT = 64
"""Resizing changes colours at edges by at most this (of 255). The largest measured change is 45,
with the Lanczos filter."""
_CVAT_GREEN = (48, 112, 32)
"""Colour of the first label in masks of CVAT, an annotation tool. CVAT gave index 0 to this label
if no label was named background."""


def load_mask(picture: Picture) -> Mask:
    """Load a mask from an image: (H, W) bool.

    The first of these rules that applies is used:

    - Transparency, if any pixel is fully transparent. Opaque pixels are the object.
    - Palette index, if the palette has colours other than grey. Every index except 0 is the object.
    - Brightness, for images in greys or in one colour on black, including antialiased edges.
      Pixels brighter than half of the maximum are the object. In JPEG, JPEG 2000, WebP, AVIF and
      HEIC files, more than two values that are all below 32 (of 255) are taken as noise: the mask
      is empty.

    Args:
        picture: a path, a URL, bytes, a binary file object, a PIL image, an array with the channels
            last, or a tensor (H, W) or (1, 3 or 4, H, W), with values of any range.

    Raises:
        UnreadableImageError: if a file cannot be downloaded or read as an image, or if its mask is
            ambiguous. A mask is ambiguous if it has several colours, several palette indices other
            than 0, more than two integer values that are all below 32, or a palette in which the
            colour of index 0 is more than twice as bright as the other colour.
        ValueError: if an image, array or tensor is ambiguous in the same way, contains NaN or
            infinity, or has the wrong shape.
        TypeError: for any other type, and for file objects that are not binary.
    """
    if isinstance(picture, str | PathLike | bytes | Readable):
        with open_image(picture, "mask") as image:
            return _of_image(image)
    if isinstance(picture, Image.Image):
        return _of_image(reopen_if_deep(picture))
    if isinstance(picture, Tensor):
        return _of_numbers(to_array(picture))
    if isinstance(picture, np.ndarray):
        return _of_numbers(picture)
    raise TypeError(
        "a mask must be a path, URL, bytes, file object, PIL image, array or tensor, not "
        f"{type(picture)}"
    )


def _of_image(image: Image.Image) -> Mask:
    lossy = image.format in _LOSSY or image.info.get("compression") == "jpeg"  # JPEG in TIFF
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
            return _of_palette(indices, used[1:], palette)
    grey = image.mode in ("1", "L", "LA", "P")
    return _of_numbers(np.asarray(image.convert("L" if grey else "RGB")), lossy)


def _of_numbers(numbers: npt.NDArray[Any], lossy: bool = False) -> Mask:
    image = with_channels(numbers)
    if image.dtype.kind not in "biuf" or not np.isfinite(image).all():
        raise ValueError("the values of a mask must be real and finite")
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
        raise _ambiguous(f"several values, {bright.min()} to {highest}, like a label map")
    return np.asarray(bright > highest / 2)


def _of_palette(
    indices: npt.NDArray[np.uint8], numbers: npt.NDArray[np.int64], palette: npt.NDArray[np.uint8]
) -> Mask:
    """Return the mask of the only index other than 0; index 0 is the background.

    A background more than twice as bright as the object is rejected, since Pillow's `quantize`
    gives index 0 to a bright object on black. An exception is a background in CVAT's green: only
    CVAT is known to have written backgrounds that are brighter than the objects
    (https://github.com/cvat-ai/cvat/issues/1736).
    """
    if len(numbers) > 1:
        listed = ", ".join(map(str, numbers[:5])) + (", ..." if numbers[5:].size else "")
        raise _ambiguous(f"a coloured palette and {len(numbers)} indices other than 0, {listed}")
    background = tuple(palette[0].tolist())
    if (palette[numbers].max(1) < max(background) / 2).any() and background != _CVAT_GREEN:
        raise ValueError(
            f"the mask is ambiguous: its palette has the colour {background} at index 0, the "
            f"background, and a darker one at index {numbers[0]}. Save the mask white on black, "
            "mode L"
        )
    return np.asarray(indices > 0)


def _one_colour(image: npt.NDArray[Any], lossy: bool) -> bool:
    """Return whether an image (H, W, 3) has one colour on black, with darker shades at edges.

    The tolerance is larger at edges than in flat regions. Resizing overshoots at edges, and if a
    channel is then clipped at 255, the ratio of the channels changes.
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
    """Return the mean colours (N, 1, 3) of the 8 x 8 blocks without edges.

    Lossy formats blur colours at edges.
    """
    height, width = (side // 8 for side in image.shape[:2])
    blocks = image[: height * 8, : width * 8].reshape(height, 8, width, 8, 3)
    blocks = blocks.swapaxes(1, 2).reshape(-1, 64, 3)  # H8 8 W8 8 3 -> H8 W8 8 8 3 -> N 64 3
    return np.asarray(blocks[np.ptp(blocks.max(2), axis=1) < _NOISE].mean(1)[:, None])


def _ambiguous(found: str) -> ValueError:
    return ValueError(
        f"the mask is ambiguous: it has {found}. Use a mask of one object, white on black. In a "
        "table of your own data, a label map (mode L or P) with the column `label` also works"
    )


def exif_note(found: Sequence[int], wanted: Sequence[int], *pictures: Picture) -> str:
    """Return a note for an error message if an EXIF orientation explains a size mismatch.

    Args:
        found: height and width.
        wanted: expected height and width.
        pictures: paths or PIL images whose EXIF orientation may explain the mismatch.

    Returns:
        "; " and a note about the first picture whose EXIF orientation swaps height and width. Empty
        if there is none, or if `found` is not `wanted` with height and width swapped.
    """
    if list(found) != list(wanted)[::-1]:
        return ""
    for picture in pictures:
        stored, shown = _stored_and_shown(picture)
        if stored and shown and stored != shown:
            name = picture if isinstance(picture, str | PathLike) else "the image"
            return (
                f"; {name} is stored as {stored[1]} x {stored[0]} pixels (width x height) and its "
                f"EXIF orientation turns it to {shown[1]} x {shown[0]}. Save it without an EXIF "
                "orientation, with the pixels in the orientation that was annotated"
            )
    return ""


def _stored_and_shown(picture: Picture) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """Return height and width as stored, and with the EXIF orientation applied."""
    if isinstance(picture, str | PathLike) and not is_url(picture):
        file = Path(picture).expanduser()
        return image_size(file), image_size(file, upright=True)
    if isinstance(picture, Image.Image):
        upright = ImageOps.exif_transpose(picture)
        return (picture.height, picture.width), (upright.height, upright.width)
    return None, None
