"""Photos of all kinds as uint8 RGB."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.photo_files import open_header

RGB = npt.NDArray[np.uint8]
Picture = str | PathLike[str] | Image.Image | npt.NDArray[Any] | Tensor
"""a file; or an image of PIL; or numbers, see `from_numbers`"""

DEEP = ("I", "F")
"""beginnings of PIL's modes of more than 8 bits a channel"""
_HIGHEST_VALUE = (281, 341)
"""tags of TIFF: MaxSampleValue, and SMaxSampleValue of floats"""
_ON_ITS_SIDE = range(5, 9)
"""EXIF orientations that exchange height and width"""
_DEPTHS = (8, 10, 12, 14, 16)
"""bits of a pixel, as cameras and microscopes have them"""
_said: set[str] = set()
"""depths that a log line has told of"""

log = logging.getLogger(__name__)


class UnreadableImageError(OSError):
    """A photo is missing, truncated, too large or no image at all."""


@contextmanager
def open_image(file: Path, what: str = "photo") -> Iterator[Image.Image]:
    """Open an image file (see `open_header`); what goes wrong until it is closed names the file.

    Args:
        file: whatever it is called.
        what: how the message calls one that is not there.

    Raises:
        UnreadableImageError: naming the file.
    """
    try:
        image = _decode(file)
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{file}: no such {what}") from error
    except Exception as error:  # PIL's plugins raise anything for damaged files
        raise UnreadableImageError(f"{file}: cannot be read as an image ({error})") from error
    try:
        yield image
    except (OSError, ValueError, MemoryError) as error:
        raise UnreadableImageError(f"{file}: {str(error) or 'too little memory'}") from error


def read_image(file: Path) -> RGB:
    """Read a photo of a dataset, as stored: (H, W, 3) uint8 RGB, whatever its mode.

    Its EXIF orientation is left alone: datasets are annotated on the pixels as stored.

    Raises:
        UnreadableImageError: naming the file; also for greys of unknown range (`eight_bits`).
    """
    with open_image(file) as image:
        return _to_rgb(image, image)


def load_picture(picture: Picture) -> tuple[RGB, npt.NDArray[np.uint8] | None]:
    """Bring what somebody hands in to RGB, upright as viewers show it.

    Returns:
        (H, W, 3) uint8, and the alpha channel (H, W) uint8 where there is one; what is transparent
        keeps the colour that it has below. PIL keeps only the high 8 bits of 16-bit colours, so a
        PIL image that is not loaded yet is read again from its file.

    Raises:
        UnreadableImageError: naming the file.
        ValueError: numbers that are no image.
        TypeError: something else.
    """
    if isinstance(picture, str | PathLike):
        with open_image(Path(picture).expanduser()) as image:
            return _load_pil(image)
    if isinstance(picture, Image.Image):
        return _load_pil(reopened(picture))
    if isinstance(picture, Tensor):
        return from_numbers(to_array(picture))
    if isinstance(picture, np.ndarray):
        return from_numbers(picture)
    raise TypeError(f"a photo is a file, a PIL image, an array or a tensor, not {type(picture)}")


def load_photo(picture: Picture) -> RGB:
    """Bring what somebody hands in to RGB as viewers show it: what is transparent lies on white.

    Returns and raises what `load_picture` does, without alpha.
    """
    colours, alpha = load_picture(picture)
    if alpha is None:
        return colours
    photo = Image.new("RGB", colours.shape[1::-1], "white")
    photo.paste(Image.fromarray(colours), mask=Image.fromarray(alpha))
    return np.array(photo)


def to_tensor(image: RGB) -> Tensor:
    """(H, W, 3) as (3, H, W), where it lies: nothing is copied."""
    return torch.from_numpy(image).permute(2, 0, 1)


def to_array(tensor: Tensor) -> npt.NDArray[Any]:
    """(C, H, W) as (H, W, C), and (H, W) as it is."""
    numbers = tensor.detach().cpu()
    if numbers.dtype == torch.bfloat16:  # numpy has none
        numbers = numbers.float()
    return np.asarray(numbers.movedim(0, -1) if numbers.ndim == 3 else numbers)


def sides_seen(size: Sequence[int], area_side: int, patch: int) -> tuple[int, int]:
    """Height and width at which a model sees an image: its aspect kept, multiples of the patch.

    Args:
        size: its height and width.
        area_side: of a square of about the same area, in pixels.
        patch: side of a patch in pixels.
    """
    scale = area_side / (size[0] * size[1]) ** 0.5
    most = max(1, round((area_side / patch) ** 2))  # patches, where the other side has but one
    height, width = (min(max(1, round(side * scale / patch)), most) * patch for side in size)
    return height, width


def resize(image: RGB, sides: tuple[int, int]) -> Tensor:
    """Bring an image to a height and width, smoothly: (3, height, width) uint8."""
    pixels = to_tensor(np.ascontiguousarray(image))[None]
    return F.interpolate(pixels, sides, mode="bilinear", antialias=True)[0]


def image_size(file: Path, upright: bool = False) -> tuple[int, int] | None:
    """Height and width of a photo from its header; None if it cannot be read as one.

    Args:
        file: see `open_header`.
        upright: turned as viewers show it (see `load_photo`); else as stored.
    """
    try:
        with open_header(file) as image:
            (width, height), turned = image.size, False
            if isinstance(image, TiffImageFile):  # PIL turns them as it reads, some from here on
                width, height, upright = image.tag_v2[256], image.tag_v2[257], True
            if upright:
                turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
            return (width, height) if turned else (height, width)
    except Exception:  # see `open_image`
        return None


def reopened(image: Image.Image) -> Image.Image:
    """Read a PIL image from its file, if it is not loaded yet and PIL would cut its depth.

    The image itself where that is not possible, as when its file has been removed.
    """
    file = getattr(image, "filename", "")
    if not (file and _has_deep_colours(image) and image.tell() == 0):
        return image
    try:
        with open_image(Path(os.fsdecode(file))) as read:
            return read
    except UnreadableImageError:
        return image


def _has_deep_colours(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has colours of 16 bits in its file."""
    tiles = getattr(image, "tile", ())
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in tiles)


def _decode(file: Path) -> Image.Image:
    """Read a file into memory."""
    with open_header(file) as image:  # what is loaded stays
        deep = _has_deep_colours(image)
        image.load()
    if deep and np.asarray(image)[..., :3].max() < 64:  # PIL keeps the high bytes: 14 bits do
        bgr = np.asarray(cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_UNCHANGED))
        # PNG and TIFF may have a fourth channel that PIL leaves out
        colours = bgr[..., [2, 1, 0, 3][: len(image.getbands())]]
        image.frombytes(eight_bits(colours, _stated_highest(image), str(file)).tobytes())
    return image


def _load_pil(image: Image.Image) -> tuple[RGB, npt.NDArray[np.uint8] | None]:
    upright = ImageOps.exif_transpose(image)
    if image.mode.startswith(DEEP) or not upright.has_transparency_data:
        return _to_rgb(upright, image), None
    return from_numbers(np.asarray(upright.convert("RGBA")))


def _to_rgb(image: Image.Image, opened: Image.Image) -> RGB:
    """RGB of an image, or of an upright copy of the one that was opened."""
    if image.mode.startswith(DEEP):  # PIL would clip at 255
        name = getattr(opened, "filename", "") or "an image"
        image = Image.fromarray(eight_bits(np.asarray(image), _stated_highest(opened), name))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _stated_highest(image: Image.Image) -> float:
    """The highest value that a TIFF states by its tags; 0 where it states none.

    A PNG needs no such look: its values are scaled to all of its bits, whatever its chunk sBIT.
    """
    if not isinstance(image, TiffImageFile):
        return 0
    given = [image.tag_v2.get(tag) for tag in _HIGHEST_VALUE]
    listed = [one for part in given for one in (part if isinstance(part, tuple) else (part,))]
    bits = image.tag_v2.get(258)
    if isinstance(bits, tuple) and len(bits) == 1 and bits[0] < 16:
        listed.append((1 << bits[0]) - 1)
    return max((one for one in listed if isinstance(one, int | float) and one < 1 << 16), default=0)


def from_numbers(
    numbers: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """RGB, and alpha where there is one, of (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) numbers.

    Tensors come here from (H, W) and (1, 3 or 4, H, W).

    Args:
        numbers: whole, of 8 to 16 bits (see `eight_bits`); floats from 0 to 1; or booleans.

    Raises:
        ValueError: other shapes, other ranges, NaN.
    """
    image = with_channels(numbers)
    if image.dtype.kind == "f":
        if not (image.min() >= 0 and image.max() <= 1):  # NaN compares false
            raise ValueError(
                f"an image of floats lies in [0, 1]; this one has {image.min():g} to "
                f"{image.max():g}"
            )
        image = (image * 255).round().astype(np.uint8)
    elif image.dtype.kind == "b":
        image = image.astype(np.uint8) * 255
    elif image.dtype != np.uint8:
        image = eight_bits(image)
    alpha = image[..., 3] if image.shape[2] == 4 else None
    colours = image[..., :3] if image.shape[2] > 1 else image.repeat(3, 2)
    return np.ascontiguousarray(colours), alpha


def with_channels(numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Give an array (H, W) a channel: (H, W, 1).

    Raises:
        ValueError: for shapes of no image.
    """
    image = numbers[..., None] if numbers.ndim == 2 else numbers
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(
            "an image is an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (3, H, W), not "
            f"{tuple(numbers.shape)}"
        )
    return image


def eight_bits(
    numbers: npt.NDArray[Any], stated: float = 0, name: str = "an image"
) -> npt.NDArray[np.uint8]:
    """Bring numbers to 8 bits by the range that they use.

    Whole numbers have 8, 10, 12, 14 or 16 bits: the fewest that hold the highest of them, of which
    the highest 8 are kept. So 12 bits of a camera in a file of 16 keep their brightness, and an
    image of 16 bits that uses less than a quarter of its range is brightened. Alpha may be deeper
    than the colours and does not set their range. Floats lie in [0, 1]; if one is higher, the
    highest becomes 255. Logs once per depth when the values use fewer bits than their type holds.

    Args:
        numbers: of any shape; of (H, W, 4), the last channel is alpha.
        stated: the highest value as its file states it; the range is not taken to be smaller.
        name: how the log calls the image.

    Raises:
        ValueError: negative numbers, NaN, whole numbers of more than 16 bits.
    """
    if numbers.ndim == 3 and numbers.shape[2] == 4:
        colours, alpha = numbers[..., :3], numbers[..., 3]
        least = max(colours.max(), stated)
        return np.dstack([eight_bits(colours, stated, name), eight_bits(alpha, least, name)])
    highest = max(numbers.max(), stated)
    if numbers.dtype.kind == "f":
        if not (numbers.min() >= 0 and np.isfinite(numbers.max())):  # NaN compares false
            raise ValueError("its numbers are not those of 8 or 16 bits, nor floats from 0 on")
        if highest > 1:
            _say_once("floats", f"{name}: has floats up to {highest:g}, which becomes white")
        return (numbers * (255 / max(float(highest), 1.0))).round().astype(np.uint8)
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or highest >= 1 << 16:
        raise ValueError("its numbers are not those of 8 or 16 bits")
    depth = next(bits for bits in _DEPTHS if highest < 1 << bits)
    if highest and depth < 16 and (depth > 8 or numbers.dtype.itemsize == 2):
        _say_once(
            str(depth), f"{name}: its values reach {highest:g}, so it is read as {depth} bits deep"
        )
    return (numbers >> (depth - 8)).astype(np.uint8)


def _say_once(kind: str, message: str) -> None:
    if kind not in _said:
        _said.add(kind)
        log.warning("%s (other images like it are not named)", message)
