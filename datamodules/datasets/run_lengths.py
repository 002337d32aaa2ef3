"""COCO's three ways to write a mask, checked and brought to one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from datamodules.datasets.transforms import can_be_drawn

Encoded = dict[str, Any]
"""pycocotools' compressed run lengths"""
Flat = npt.NDArray[np.float64]
"""x, y, x, y, ... in pixels"""


def polygons_of(given: Sequence[object], where: str) -> list[Flat]:
    """Check polygons.

    Args:
        given: lists of coordinates, as read from json.
        where: what they belong to.

    Raises:
        ValueError: naming it.
    """
    try:
        polygons = [np.array(flat, np.float64) for flat in given]
    except (ValueError, TypeError, OverflowError):
        polygons = [np.full(1, np.nan)]
    for flat in polygons:
        if flat.ndim != 1 or len(flat) % 2 or not can_be_drawn(flat.reshape(-1, 2)):
            raise ValueError(f"{where} has malformed polygons")
    return polygons


def encode(given: object, height: int, width: int, where: str) -> list[Encoded]:
    """Bring polygons or run lengths of either kind to compressed run lengths.

    Args:
        given: checked polygons; or {"size": [height, width], "counts": ...}, the counts as a list
            of numbers or as COCO's text.
        height: of the photo.
        width: of the photo.
        where: what it belongs to.

    Returns:
        One for each polygon of three points or more, or the one given; the mask is their union.

    Raises:
        ValueError: naming what it belongs to.
    """
    if isinstance(given, list):
        flat = [polygon for polygon in given if len(polygon) >= 6]
        encoded: list[Encoded] = coco_mask.frPyObjects(flat, height, width) if flat else []
        return encoded
    if not isinstance(given, Mapping) or given.get("size") != [height, width]:
        raise ValueError(
            f"{where} has a segmentation that is neither polygons nor run lengths of {height} x "
            f"{width} pixels"
        )
    counts = given.get("counts")
    try:
        lengths = counts_of(counts) if isinstance(counts, str) else np.array(counts)
        whole = lengths.ndim == 1 and lengths.dtype.kind in "iu" and (lengths >= 0).all()
        whole = whole and (lengths <= height * width).all()  # else their sum may wrap around
    except (ValueError, OverflowError):
        whole = False
    if not whole or lengths.sum() != height * width:
        raise ValueError(f"{where} has run lengths that do not add up to {height} x {width} pixels")
    runs = {"size": [height, width], "counts": lengths.tolist()}
    return [coco_mask.frPyObjects(runs, height, width)]


def counts_of(text: str) -> npt.NDArray[np.int64]:
    """Read COCO's compressed run lengths; pycocotools does not notice where they end early.

    Each number is written in groups of five bits, the lowest first, as a character from "0" on;
    32 says that the number goes on, 16 in its last group that it is negative. From the fourth
    number on, the difference to the last but one is written.

    Args:
        text: as in json.

    Returns:
        Lengths of runs outside and inside in turn, down the columns.

    Raises:
        ValueError: for text that is none.
    """
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("no run lengths")
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > 7:
        raise ValueError("numbers beyond any picture")
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    numbers = np.add.reduceat((codes & 31) << 5 * place, first)
    numbers -= np.where(codes[last] & 16, np.int64(1) << 5 * (last - first + 1), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
