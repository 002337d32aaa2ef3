"""Split large photos into overlapping tiles and merge the masks of the tiles."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

OVERLAP = 0.25
"""minimum overlap of neighbouring tiles, as a fraction of their side length"""


class Window(NamedTuple):
    """A rectangle in a photo, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an array."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def views(height: int, width: int, side: int | None) -> list[Window]:
    """Return the windows to segment: the whole photo and, if it is larger, tiles that cover it.

    Args:
        height: height of the photo.
        width: width of the photo.
        side: side length of the evenly spaced tiles; None for no tiles.

    Returns:
        The whole photo, then the tiles row by row, all of the same size.
    """
    whole = Window(0, 0, height, width)
    if side is None or max(height, width) <= side:
        return [whole]
    tall, wide = min(side, height), min(side, width)
    tops, lefts = _starts(height, tall), _starts(width, wide)
    return [whole, *(Window(top, left, tall, wide) for top in tops for left in lefts)]


def resize(probability: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (P, 1, h, w) to (P, 1, height, width), bilinear with antialiasing."""
    # in float32: bfloat16 has three digits, and its steps would show as contour lines
    return F.interpolate(probability.float(), tuple(size), mode="bilinear", antialias=True)


def merge(whole: Tensor, tiles: Sequence[tuple[Window, Tensor]], size: Sequence[int]) -> Tensor:
    """Average the probabilities of the whole photo and of its tiles, at the size of the photo.

    Overlapping tiles are averaged with weights that fall off towards the edges of a tile. The
    result is the mean of this average and of the probabilities of the whole photo. The whole photo
    adds context, and objects that are larger than a tile.

    Args:
        whole: (P, 1, h, w) probabilities of the whole photo.
        tiles: windows that cover the photo, with their probabilities (P, 1, h, w); may be empty.
        size: height and width of the photo.

    Returns:
        (P, height, width) float32, on the CPU.
    """
    merged = resize(whole, size)[:, 0].cpu()
    if not tiles:
        return merged
    weighted, weights = torch.zeros_like(merged), torch.zeros_like(merged[0])
    for window, probability in tiles:
        rows, columns = window.slices
        weight = _ramp(window.height)[:, None] * _ramp(window.width)
        weighted[:, rows, columns] += resize(probability, window[2:])[:, 0].cpu() * weight
        weights[rows, columns] += weight
    return merged.add_(weighted.div_(weights)).div_(2)


def _starts(length: int, side: int) -> list[int]:
    """Return the first pixels of all tiles along one axis."""
    gaps = math.ceil((length - side) / (side * (1 - OVERLAP)))
    return [round(number * (length - side) / max(gaps, 1)) for number in range(gaps + 1)]


def _ramp(length: int) -> Tensor:
    """Return weights that rise from above 0 at both edges to 1, over the width of the overlap."""
    places = torch.arange(length) + 0.5
    from_edge = torch.minimum(places, length - places)
    return (from_edge / (OVERLAP * length)).clamp(max=1)
