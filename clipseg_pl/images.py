"""Load and convert photos of any kind to uint8 RGB."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO, TextIOBase
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import ExifTags, Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.photo_files import download, is_url, name_of_url, open_header


@runtime_checkable
class Readable(Protocol):
    """A binary file object."""

    def read(self) -> bytes:
        """Return the content from the current position on."""


RGB = npt.NDArray[np.uint8]
File = str | PathLike[str] | bytes | Readable
"""path or http(s) URL of an image file, its content, or a binary file object"""
Picture = File | Image.Image | npt.NDArray[Any] | Tensor
"""image file, PIL image, or array or tensor of pixel values (see `from_numbers`)"""

DEEP = ("I", "F")
"""prefixes of PIL's modes with more than 8 bits per channel"""
_HIGHEST_VALUE = (281, 341)
"""TIFF tags MaxSampleValue, and SMaxSampleValue for floats"""
_ON_ITS_SIDE = range(5, 9)
"""EXIF orientations that swap height and width"""
_DEPTHS = (8, 10, 12, 14, 16)
"""bit depths of cameras and microscopes"""
_logged: set[str] = set()
"""bit depths that were already logged"""

log = logging.getLogger(__name__)


class UnreadableImageError(OSError):
    """A photo is missing, truncated, too large or not an image, or cannot be downloaded."""


@contextmanager
def open_image(file: File, what: str = "photo") -> Iterator[Image.Image]:
    """Open an image file (see `open_header`) and add its name to errors raised in the context.

    Args:
        file: path with any extension, URL, bytes, or a file object, which is read but not closed.
        what: word for the image in error messages.

    Raises:
        UnreadableImageError: if the image cannot be downloaded or read, or the code in the context
            raises OSError, ValueError or MemoryError. The message contains the path, the URL or the
            name of the file object.
        TypeError: if a file object is not binary.
    """
    name = name_of(file) or f"the {what}"
    try:
        source = _path_or_stream(file)
    except OSError as error:
        raise UnreadableImageError(f"{name}: {error}") from error
    try:
        image = _decode(source)
    except FileNotFoundError as error:
        raise UnreadableImageError(f"{name}: no such {what}") from error
    except Exception as error:  # PIL's plugins raise errors of any type for damaged files
        raise UnreadableImageError(f"{name}: cannot be read as an image ({error})") from error
    try:
        yield image
    except (OSError, ValueError, MemoryError) as error:
        raise UnreadableImageError(f"{name}: {str(error) or 'not enough memory'}") from error


def name_of(picture: Picture) -> str:
    """Return the path, the URL or the name of a file object; empty for anything else."""
    name = picture if isinstance(picture, str | PathLike) else getattr(picture, "name", "")
    return str(name) if isinstance(name, str | PathLike) else ""


def read_file_object(file: Readable) -> bytes:
    """Read a file object. It is not closed.

    Raises:
        TypeError: if the file object is not binary.
    """
    if isinstance(file, TextIOBase):
        raise TypeError('a file object must be binary: open it with the mode "rb"')
    return file.read()


def _path_or_stream(file: File) -> Path | BytesIO:
    """Return a path as it is, and any other file as a stream in memory, with its name if known."""
    if is_url(file):
        stream, name = BytesIO(download(file)), name_of_url(file)
    elif isinstance(file, str | PathLike):
        return Path(file).expanduser()
    elif isinstance(file, bytes):
        stream, name = BytesIO(file), ""
    else:
        stream, name = BytesIO(read_file_object(file)), name_of(file)
    stream.name = name  # for `open_header`
    return stream


def read_image(file: Path) -> RGB:
    """Read a photo of a dataset as (H, W, 3) uint8 RGB.

    The EXIF orientation is not applied, since datasets are annotated on the stored pixels.

    Raises:
        UnreadableImageError: if the file cannot be read as an image, or if its values cannot be
            converted to 8 bits (see `eight_bits`).
    """
    with open_image(file) as image:
        return _to_rgb(image, image)


def load_picture(picture: Picture) -> tuple[RGB, npt.NDArray[np.uint8] | None]:
    """Load a user's photo as RGB and alpha. The EXIF orientation is applied.

    PIL keeps only the high 8 bits of 16-bit colours. A PIL image that is not loaded yet is
    therefore read again from its file.

    Returns:
        (H, W, 3) uint8, and the alpha channel (H, W) uint8 or None. Transparent pixels keep their
        stored colour.

    Raises:
        UnreadableImageError: if a file cannot be downloaded or read as an image.
        ValueError: if an array or tensor is not an image.
        TypeError: for any other type, and for file objects that are not binary.
    """
    if isinstance(picture, str | PathLike | bytes | Readable):
        with open_image(picture) as image:
            return _load_pil(image)
    if isinstance(picture, Image.Image):
        return _load_pil(reopen_if_deep(picture))
    if isinstance(picture, Tensor):
        return from_numbers(to_array(picture))
    if isinstance(picture, np.ndarray):
        return from_numbers(picture)
    raise TypeError(
        "a photo must be a path, URL, bytes, file object, PIL image, array or tensor, not "
        f"{type(picture)}"
    )


def load_photo(picture: Picture) -> RGB:
    """Load a user's photo as (H, W, 3) uint8 RGB, on a white background if it is transparent.

    Accepts the same inputs and raises the same errors as `load_picture`.
    """
    colours, alpha = load_picture(picture)
    if alpha is None:
        return colours
    photo = Image.new("RGB", colours.shape[1::-1], "white")
    photo.paste(Image.fromarray(colours), mask=Image.fromarray(alpha))
    return np.array(photo)


def to_tensor(image: RGB) -> Tensor:
    """Return a (3, H, W) view of an image (H, W, 3), without copying."""
    return torch.from_numpy(image).permute(2, 0, 1)


def to_array(tensor: Tensor) -> npt.NDArray[Any]:
    """Convert a tensor (C, H, W) to an array (H, W, C), or (H, W) to (H, W)."""
    values = tensor.detach().cpu()
    if values.dtype == torch.bfloat16:  # numpy has no bfloat16
        values = values.float()
    return np.asarray(values.movedim(0, -1) if values.ndim == 3 else values)


def size_for_model(size: Sequence[int], area_side: int, patch: int) -> tuple[int, int]:
    """Return the height and width to which an image is resized for the model.

    The aspect ratio is kept. Both sides are multiples of the patch size.

    Args:
        size: height and width of the image.
        area_side: side in pixels of a square of about the same area as the result.
        patch: side of a patch in pixels.
    """
    scale = area_side / (size[0] * size[1]) ** 0.5
    most = max(1, round((area_side / patch) ** 2))  # length of a strip one patch wide, in patches
    height, width = (min(max(1, round(side * scale / patch)), most) * patch for side in size)
    return height, width


def resize(image: RGB, sides: tuple[int, int]) -> Tensor:
    """Resize an image to (3, height, width) uint8, bilinear with antialiasing."""
    pixels = to_tensor(np.ascontiguousarray(image))[None]
    return F.interpolate(pixels, sides, mode="bilinear", antialias=True)[0]


def image_size(file: Path, upright: bool = False) -> tuple[int, int] | None:
    """Read the height and width of a photo from its header; None if the file is not readable.

    Args:
        file: path of a file that `open_header` can read.
        upright: apply the EXIF orientation, as `load_photo` does.
    """
    try:
        with open_header(file) as image:
            (width, height), turned = image.size, False
            # PIL rotates TIFFs when it loads them, some versions already when it opens them
            if isinstance(image, TiffImageFile):
                width, height, upright = image.tag_v2[256], image.tag_v2[257], True
            if upright:
                turned = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
            return (width, height) if turned else (height, width)
    except Exception:  # see `open_image`
        return None


def reopen_if_deep(image: Image.Image) -> Image.Image:
    """Read an unloaded PIL image again from its file if PIL would reduce its bit depth.

    Returns the image itself if its depth is not reduced, or if its file cannot be read.
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
    """Return whether an image that is not loaded yet has 16-bit colours in its file."""
    tiles = getattr(image, "tile", ())
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in tiles)


def _decode(source: Path | BytesIO) -> Image.Image:
    """Load an image file into memory, with 16-bit colours scaled to 8 bits."""
    with open_header(source) as image:  # loaded pixels stay available after closing
        deep = _has_deep_colours(image)
        image.load()
    if deep and np.asarray(image)[..., :3].max() < 64:  # the values have at most 14 bits
        content = source.read_bytes() if isinstance(source, Path) else source.getvalue()
        numbers = np.frombuffer(content, np.uint8)
        bgr = np.asarray(cv2.imdecode(numbers, cv2.IMREAD_UNCHANGED))
        # PNG and TIFF may have a fourth channel that PIL drops
        colours = bgr[..., [2, 1, 0, 3][: len(image.getbands())]]
        name = name_of(source) or "an image"
        image.frombytes(eight_bits(colours, _stated_highest(image), name).tobytes())
    return image


def _load_pil(image: Image.Image) -> tuple[RGB, npt.NDArray[np.uint8] | None]:
    upright = ImageOps.exif_transpose(image)
    if image.mode.startswith(DEEP) or not upright.has_transparency_data:
        return _to_rgb(upright, image), None
    return from_numbers(np.asarray(upright.convert("RGBA")))


def _to_rgb(image: Image.Image, opened: Image.Image) -> RGB:
    """Convert an image to RGB. `opened` is the same image before rotation, with its file's tags."""
    if image.mode.startswith(DEEP):  # PIL would clip values at 255
        name = getattr(opened, "filename", "") or "an image"
        image = Image.fromarray(eight_bits(np.asarray(image), _stated_highest(opened), name))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _stated_highest(image: Image.Image) -> float:
    """Return the highest possible value according to the tags of a TIFF; 0 if unknown.

    PNGs need no such check: their values are scaled to the full bit depth, even with an sBIT chunk.
    """
    if not isinstance(image, TiffImageFile):
        return 0
    tags = [image.tag_v2.get(tag) for tag in _HIGHEST_VALUE]
    values = [value for tag in tags for value in (tag if isinstance(tag, tuple) else (tag,))]
    bits = image.tag_v2.get(258)
    if isinstance(bits, tuple) and len(bits) == 1 and bits[0] < 16:
        values.append((1 << bits[0]) - 1)
    return max((v for v in values if isinstance(v, int | float) and v < 1 << 16), default=0)


def from_numbers(
    numbers: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Convert an array of pixel values to RGB and alpha.

    Args:
        numbers: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4); integers of 8 to 16 bits (see
            `eight_bits`), floats from 0 to 1, or booleans.

    Returns:
        (H, W, 3) uint8, and the alpha channel (H, W) uint8 or None.

    Raises:
        ValueError: for other shapes, values out of range, or NaN.
    """
    image = with_channels(numbers)
    if image.dtype.kind == "f":
        if not (image.min() >= 0 and image.max() <= 1):  # NaN compares false
            raise ValueError(
                "a floating-point image must have values in [0, 1], not in "
                f"[{image.min():g}, {image.max():g}]"
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
    """Return an image array with a channel axis; (H, W) becomes (H, W, 1).

    Raises:
        ValueError: if the shape is not that of an image with 1, 3 or 4 channels.
    """
    image = numbers[..., None] if numbers.ndim == 2 else numbers
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(
            "an image must be an array (H, W), (H, W, 3) or (H, W, 4), or a tensor (3, H, W), not "
            f"{tuple(numbers.shape)}"
        )
    return image


def eight_bits(
    numbers: npt.NDArray[Any], stated: float = 0, name: str = "an image"
) -> npt.NDArray[np.uint8]:
    """Convert pixel values to 8 bits, with a bit depth that is guessed from the highest value.

    The bit depth of integers is the smallest of 8, 10, 12, 14 and 16 bits that covers the highest
    value. The 8 most significant of these bits are kept. 12-bit camera data in a 16-bit file are
    therefore not darkened. However, a 16-bit image becomes brighter if all its values are below a
    quarter of the 16-bit range. Alpha has its own bit depth, at least that of the colours.

    Floats are scaled from [0, 1] to [0, 255]. If some are above 1, all are scaled so that the
    highest becomes 255.

    Logs a warning, once per bit depth, if the values use fewer bits than their type has.

    Args:
        numbers: array of any shape; the last channel of (H, W, 4) is alpha.
        stated: highest possible value according to the file, used if it is above the highest value.
        name: name of the image in the log.

    Raises:
        ValueError: for negative values, NaN, or integers of more than 16 bits.
    """
    if numbers.ndim == 3 and numbers.shape[2] == 4:
        colours, alpha = numbers[..., :3], numbers[..., 3]
        least = max(colours.max(), stated)
        return np.dstack([eight_bits(colours, stated, name), eight_bits(alpha, least, name)])
    highest = max(numbers.max(), stated)
    if numbers.dtype.kind == "f":
        if not (numbers.min() >= 0 and np.isfinite(numbers.max())):  # NaN compares false
            raise ValueError("pixel values must be integers of 8 or 16 bits or finite floats >= 0")
        if highest > 1:
            _warn_once("floats", f"{name}: floats above 1; the highest, {highest:g}, becomes 255")
        return (numbers * (255 / max(float(highest), 1.0))).round().astype(np.uint8)
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or highest >= 1 << 16:
        raise ValueError("pixel values must be non-negative integers of 8 or 16 bits")
    depth = next(bits for bits in _DEPTHS if highest < 1 << bits)
    if highest and depth < 16 and (depth > 8 or numbers.dtype.itemsize == 2):
        _warn_once(str(depth), f"{name}: the highest value is {highest:g}; read as {depth}-bit")
    return (numbers >> (depth - 8)).astype(np.uint8)


def _warn_once(kind: str, message: str) -> None:
    if kind not in _logged:
        _logged.add(kind)
        log.warning("%s (no further warnings for similar images)", message)
