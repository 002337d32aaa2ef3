"""Numbers of any depth as 8 bits."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

_DEPTHS = (8, 10, 12, 14, 16)
"""bits of a pixel, as cameras and microscopes have them"""
_said: set[str] = set()
"""depths that a log line has told of"""


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
