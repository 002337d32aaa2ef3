"""Large photos in parts: where the parts lie, and how their masks become one."""

import math
from collections.abc import Iterator, Sequence
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


def cut(height: int, width: int, side: int) -> list[Window]:
    """Cover a photo with tiles of one size, evenly spread.

    Args:
        height: of the photo.
        width: of the photo.
        side: of the tiles; where the photo is shorter, its own.

    Returns:
        Row by row; one of the photo's size where it is no larger than a tile.
    """
    tall, wide = min(side, height), min(side, width)
    return [
        Window(top, left, tall, wide)
        for top in _starts(height, tall)
        for left in _starts(width, wide)
    ]


def resize(probability: Tensor, size: Sequence[int]) -> Tensor:
    """Bring (P, 1, h, w) to (P, 1, height, width), smoothly in both directions."""
    # in float32: bf16 has three digits, and steps of it show as contour lines
    return F.interpolate(probability.float(), tuple(size), mode="bilinear", antialias=True)


def merge(parts: Sequence[tuple[Window, Tensor]], height: int, width: int) -> Tensor:
    """Average tiles where they overlap, the nearer to a tile's edge the less it counts.

    Args:
        parts: tiles and their (P, 1, h, w) probabilities, at any size.
        height: of the photo.
        width: of the photo.

    Returns:
        (P, height, width) float32.
    """
    weighted = torch.zeros(len(parts[0][1]), height, width)
    weights = torch.zeros(height, width)
    for window, probability in parts:
        at_size = resize(probability, window[2:])[:, 0].cpu()
        weight = _ramp(window.height)[:, None] * _ramp(window.width)
        rows, columns = window.part
        weighted[:, rows, columns] += at_size * weight
        weights[rows, columns] += weight
    return weighted.div_(weights)


def _starts(length: int, side: int) -> Iterator[int]:
    """First pixels of tiles along one axis."""
    step = side * (1 - OVERLAP)
    gaps = math.ceil((length - side) / step)
    for number in range(gaps + 1):
        yield round(number * (length - side) / gaps) if gaps else 0


def _ramp(length: int) -> Tensor:
    """Rises from a tile's edges over the overlap, 1 between; nowhere 0."""
    places = torch.arange(length) + 0.5
    from_edge = torch.minimum(places, length - places)
    return (from_edge / (OVERLAP * length)).clamp(max=1)
