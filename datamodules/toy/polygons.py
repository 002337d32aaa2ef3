"""Exact masks to the polygons that annotation files hold."""

import cv2
import numpy as np
from numpy.typing import NDArray

_INSIDE, _OUTER = 0.5, 0.4  # of a pixel; 0.5 ± 0.4 truncates to the pixel itself


def polygons_of(mask: NDArray[np.bool_]) -> list[list[list[float]]]:
    """Traces a mask by polygons without holes.

    A vertex lies inside its boundary pixel, pushed outward by 0.4 pixels. So the mask comes back
    both from rasterisers that truncate vertices to pixels and draw outlines (PhraseCut's) and from
    those that fill areas (COCO's), but for the ends of lines that are one pixel wide and at least
    three long: these have the vertex in the pixel's middle, and COCO's leaves them out.

    Args:
        mask: (H, W) bool, at least one pixel.

    Returns:
        Polygons of [x, y] points in pixels, x in [0, W), y in [0, H); their union is the mask.
    """
    return [
        polygon for piece, left in _without_holes(mask, 0) for polygon in _outlines(piece, left)
    ]


def _without_holes(mask: NDArray[np.bool_], left: int) -> list[tuple[NDArray[np.bool_], int]]:
    """Cuts a mask at a column through each hole, for no polygon can leave one out.

    Returns pieces and the column of the picture at which each begins.
    """
    contours, hierarchy = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    holes = [
        contour
        for contour, links in zip(contours, np.reshape(hierarchy, (-1, 4)), strict=True)
        if links[3] >= 0
    ]
    if not holes:
        return [(mask, left)]
    x, _, width, _ = cv2.boundingRect(max(holes, key=len))
    column = x + width // 2
    return _without_holes(mask[:, :column], left) + _without_holes(mask[:, column:], left + column)


def _outlines(mask: NDArray[np.bool_], left: int) -> list[list[list[float]]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for contour in contours:
        points = contour[:, 0].astype(np.float64)
        if len(points) < 3:
            low, high = points.min(0) - _OUTER, points.max(0) + _OUTER
            points = np.array((low, (high[0], low[1]), high, (low[0], high[1])))
        else:
            way = np.roll(points, -1, 0) - np.roll(points, 1, 0)
            # OpenCV walks outer contours so that the outside lies on this side of the way
            points = points + _OUTER * np.sign(np.stack((-way[:, 1], way[:, 0]), 1))
        points = points[_corners(points)] + (left + _INSIDE, _INSIDE)
        outlines.append([[round(x, 1), round(y, 1)] for x, y in points.tolist()])
    return outlines


def _corners(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points of a closed line are not on the straight way between their neighbours."""
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turn = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-6
    back = (before * after).sum(1) < 0
    return np.asarray(turn | back)
