"""Trace masks as polygons."""

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Polygon = npt.NDArray[Any]
"""(N, 2) int32: x and y of pixel corners; 0 is the left or upper edge of the photo"""


def trace(mask: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Trace a mask along the edges of its pixels, without loss.

    There is one polygon for each connected part; pixels that share a corner are connected. A
    polygon reaches each hole along a line, runs around the hole in the opposite direction, and
    returns along the same line. COCO's rasterizer (pycocotools) draws exactly the mask.

    Args:
        mask: (H, W).
    """
    # at double size, a pixel at x has the columns 2x and 2x + 1, and its corners are x and x + 1
    double = mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    contours, hierarchy = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    rings = [_without_repeats((contour[:, 0] + 1) // 2) for contour in contours]
    links = hierarchy[0].tolist()  # next, previous, first hole, parent
    polygons = []
    for ring, (_, _, hole, parent) in zip(rings, links, strict=True):
        if parent >= 0:
            continue
        while hole >= 0:
            ring = _cut_out(ring, rings[hole])
            hole = links[hole][0]
        polygons.append(ring)
    return polygons


def _without_repeats(ring: Polygon) -> Polygon:
    kept: Polygon = ring[(ring != np.roll(ring, 1, axis=0)).any(1)]
    return kept


def _cut_out(ring: Polygon, hole: Polygon) -> Polygon:
    """Connect a ring and a hole at the corner of the ring nearest to the start of the hole."""
    near = int(((ring - hole[0]) ** 2).sum(1).argmin())
    return np.concatenate([ring[: near + 1], hole, hole[:1], ring[near:]])
