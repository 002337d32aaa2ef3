"""Masks in COCO's format: polygons, boxes and run-length encodings (RLE)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Sizes
from datamodules.datasets.phrase_table import Rows
from datamodules.datasets.transforms import FARTHEST

Encoded = dict[str, Any]
"""compressed RLE of pycocotools"""
Flat = npt.NDArray[np.float64]
"""x, y, x, y, ... in pixels"""
Box = tuple[float, float, float, float]
"""left, top, width and height in pixels"""


@dataclass(frozen=True)
class RunLengths:
    """Function that takes a row and decodes its mask from pycocotools' compressed RLE.

    Args:
        text: (total,) uint8, the RLE strings of all rows, concatenated.
        offsets: (rows + 1,) int64, start of each row in `text`.
        sizes: (rows, 2) int32, height and width.
    """

    text: npt.NDArray[np.uint8]
    offsets: Rows
    sizes: Sizes

    @classmethod
    def pack(cls, counts: Sequence[bytes], sizes: Sizes) -> "RunLengths":
        """Pack the RLE strings of all rows, and their sizes, (rows, 2)."""
        ends = np.cumsum([0, *map(len, counts)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(counts), np.uint8), ends, sizes)

    def __call__(self, row: int) -> Mask:
        """Decode the mask of a row, (H, W) bool."""
        counts = self.text[self.offsets[row] : self.offsets[row + 1]].tobytes()
        encoded = {"size": self.sizes[row].tolist(), "counts": counts}
        return np.asarray(coco_mask.decode(encoded), np.bool_)


def read_polygons(values: Sequence[object], where: str) -> list[Flat]:
    """Convert polygons to arrays and check them.

    Args:
        values: lists of coordinates from JSON.
        where: name of the annotation, for messages.

    Raises:
        ValueError: if a polygon is malformed.
    """
    try:
        polygons = [np.array(flat, np.float64) for flat in values]
    except (ValueError, TypeError, OverflowError):
        polygons = [np.full(1, np.nan)]
    for flat in polygons:
        if flat.ndim != 1 or len(flat) % 2 or not (np.abs(flat) < FARTHEST).all():
            raise ValueError(f"{where}: a polygon must be a list of numbers x, y, x, y, ...")
    return polygons


def read_box(value: object, where: str) -> Box | None:
    """Convert a box from JSON and check it.

    Args:
        value: left, top, width and height in pixels; None or an empty list if there is no box.
        where: name of the annotation, for messages.

    Raises:
        ValueError: if the box is malformed.
    """
    if value is None or value == []:
        return None
    try:
        left, top, width, height = np.array(value, np.float64).tolist()
        if not np.isfinite([left, top, width, height]).all():
            raise ValueError("not finite")
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{where}: bbox is not a list of four numbers") from error
    return left, top, width, height


def encode_box(box: Box, height: int, width: int) -> Encoded | None:
    """Convert the part of a box inside the photo to compressed RLE; None if there is none."""
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], float(width)), min(box[1] + box[3], float(height))
    if right <= left or bottom <= top:
        return None
    inside = np.array([[left, top, right - left, bottom - top]])
    encoded: list[Encoded] = coco_mask.frPyObjects(inside, height, width)
    return encoded[0]


def encode(segmentation: object, height: int, width: int, where: str) -> list[Encoded]:
    """Convert polygons or RLE, compressed or not, to compressed RLE.

    Args:
        segmentation: polygons from `read_polygons`; or RLE {"size": [height, width], "counts":
            ...} with counts as a list of numbers or as COCO's compressed string.
        height: height of the photo in pixels.
        width: width of the photo in pixels.
        where: name of the annotation, for messages.

    Returns:
        One RLE per polygon of at least three points, or the RLE of `segmentation`. The mask is
        their union.

    Raises:
        ValueError: if the segmentation is malformed or not of the photo's size.
    """
    if isinstance(segmentation, list):
        flat = [polygon for polygon in segmentation if len(polygon) >= 6]
        encoded: list[Encoded] = coco_mask.frPyObjects(flat, height, width) if flat else []
        return encoded
    if not isinstance(segmentation, Mapping) or segmentation.get("size") != [height, width]:
        raise ValueError(
            f"{where}: segmentation is neither a list of polygons nor a run-length encoding of "
            f"size {height} x {width}"
        )
    counts = segmentation.get("counts")
    try:
        lengths: Any = _lengths(counts) if isinstance(counts, str) else counts
        if sum(lengths) != height * width:
            raise ValueError("wrong number of pixels")
        return [coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{where}: run lengths do not add up to {height} x {width} pixels"
        ) from error


def _lengths(text: str) -> list[int]:
    """Decode the run lengths of COCO's compressed string.

    pycocotools accepts truncated strings. The sum of the decoded lengths reveals them.

    Each character of the string stores five bits of a number, the lowest bits first. The bit of
    value 32 marks that another character follows. The bit of value 16 in the last character marks
    a negative number. From the fourth number on, the string stores the difference from the number
    two places before.
    """
    lengths: list[int] = []
    value = shift = 0
    for code in text.encode():
        value |= (code - 48 & 31) << shift
        shift += 5
        if not code - 48 & 32:
            value -= (code - 48 & 16) << shift - 4
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
