"""Large photos in parts: where the parts lie, and how their masks become one."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

OVERLAP = 0.25
"""part of a tile's side that it shares with the next, at least"""


class Window(NamedTuple):
    """A part of a photo, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def views(height: int, width: int, side: int | None) -> list[Window]:
    """What to look at: the photo whole and, where it is larger, tiles that cover it.

    Args:
        height: of the photo.
        width: of the photo.
        side: of the tiles, which are spread evenly; None for none.

    Returns:
        The whole first, then the tiles row by row, all of one size.
    """
    whole = Window(0, 0, height, width)
    if side is None or max(height, width) <= side:
        return [whole]
    tall, wide = min(side, height), min(side, width)
    tops, lefts = _starts(height, tall), _starts(width, wide)
    return [whole, *(Window(top, left, tall, wide) for top in tops for left in lefts)]


def resize(probability: Tensor, size: Sequence[int]) -> Tensor:
    """Bring (P, 1, h, w) to (P, 1, height, width), smoothly in both directions."""
    # in float32: bf16 has three digits, and steps of it show as contour lines
    return F.interpolate(probability.float(), tuple(size), mode="bilinear", antialias=True)


def merge(whole: Tensor, tiles: Sequence[tuple[Window, Tensor]], size: Sequence[int]) -> Tensor:
    """Bring all looks at a photo to its size: the mean of the whole and the tiles.

    Where tiles overlap they are averaged, the nearer to a tile's edge the less it counts. The whole
    knows what tiles cannot, what surrounds them and what is larger than they are.

    Args:
        whole: (P, 1, h, w) probabilities.
        tiles: that cover the photo, with theirs; none at all leaves the whole.
        size: height and width of the photo.

    Returns:
        (P, height, width) float32, on the CPU.
    """
    merged = resize(whole, size)[:, 0].cpu()
    if not tiles:
        return merged
    weighted, weights = torch.zeros_like(merged), torch.zeros_like(merged[0])
    for window, probability in tiles:
        rows, columns = window.part
        weight = _ramp(window.height)[:, None] * _ramp(window.width)
        weighted[:, rows, columns] += resize(probability, window[2:])[:, 0].cpu() * weight
        weights[rows, columns] += weight
    return merged.add_(weighted.div_(weights)).div_(2)


def _starts(length: int, side: int) -> list[int]:
    """First pixels of tiles along one axis."""
    gaps = math.ceil((length - side) / (side * (1 - OVERLAP)))
    return [round(number * (length - side) / max(gaps, 1)) for number in range(gaps + 1)]


def _ramp(length: int) -> Tensor:
    """Rises from a tile's edges over the overlap, 1 between; nowhere 0."""
    places = torch.arange(length) + 0.5
    from_edge = torch.minimum(places, length - places)
    return (from_edge / (OVERLAP * length)).clamp(max=1)
