"""Reading photos."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

RGB = npt.NDArray[np.uint8]
_PROBLEMS = (OSError, Image.DecompressionBombError, SyntaxError, ValueError)
"""what PIL raises for files that are no image, or only the beginning of one"""
_ON_ITS_SIDE = 5
"""EXIF orientations from here to 8 exchange height and width"""


class UnreadableImageError(OSError):
    """A photo is missing, truncated or no image at all."""


def read_image(file: Path, upright: bool = False) -> RGB:
    """Read a photo as (H, W, 3) uint8 RGB, whatever its mode (grey photos become RGB).

    Args:
        file: any format that PIL knows.
        upright: turn it as its EXIF orientation says, as viewers do. Datasets are annotated on
            the pixels as stored.

    Raises:
        UnreadableImageError: naming the file; also for greys of unknown range (32 bits, floats).
    """
    try:
        with Image.open(file) as image:
            turned = ImageOps.exif_transpose(image) if upright else image
            if turned.mode.startswith(("I", "F")):  # PIL would clip at 255
                turned = Image.fromarray(_eight_bits(np.asarray(turned)))
            return np.array(turned if turned.mode == "RGB" else turned.convert("RGB"))
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{file}: no such photo") from error
    except _PROBLEMS as error:
        raise UnreadableImageError(f"{file}: cannot be read as an image ({error})") from error


def to_tensor(image: RGB) -> Tensor:
    """(H, W, 3) as (3, H, W), where it lies: nothing is copied."""
    return torch.from_numpy(image).permute(2, 0, 1)


def _eight_bits(grey: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Bring whole numbers of 8 or 16 bits to 8; others have no range that could be known."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() >= 1 << 16:
        raise ValueError("its numbers are not those of 8 or 16 bits")
    deep = grey.dtype == np.uint16 or grey.max() > 255
    return (grey >> 8 if deep else grey).astype(np.uint8)


def image_size(file: Path, upright: bool = False) -> tuple[int, int] | None:
    """Height and width of a photo from its header; None if it has none.

    Args:
        file: as for `read_image`.
        upright: as for `read_image`.
    """
    try:
        with Image.open(file) as image:
            if upright and image.getexif().get(ExifTags.Base.Orientation, 1) >= _ON_ITS_SIDE:
                return image.width, image.height
            return image.height, image.width
    except _PROBLEMS:
        return None
