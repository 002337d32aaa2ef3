"""Named colours and textures, rendering of a single thing, and polygons of its mask."""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.toy.scenes import shapes
from datamodules.toy.scenes.shapes import Shape

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (216, 36, 36),
    "orange": (248, 130, 24),
    "yellow": (250, 218, 48),
    "green": (34, 150, 60),
    "blue": (36, 84, 216),
    "purple": (130, 52, 176),
    "pink": (246, 140, 192),
    "brown": (122, 74, 38),
    "white": (246, 246, 246),
    "black": (32, 32, 36),
}
TEXTURES: tuple[str, ...] = ("plain", "striped", "dotted", "checked")

SUPERSAMPLING = 2
_SHIFT = 3  # fractional bits of OpenCV's polygon coordinates
_PATTERN_STEP = 256  # pixels; the side of a cached pattern is a multiple of it
_NEIGHBOURS = np.ones((3, 3), np.uint8)
_FIXED = np.zeros((shapes.ROLES, 3))
_FIXED[shapes.DARK] = (38, 38, 42)
_FIXED[shapes.LIGHT] = (238, 238, 234)
_FIXED[shapes.GLASS] = (176, 220, 240)
_FIXED[shapes.WARM] = (250, 170, 40)
_FIXED[shapes.LEAF] = (70, 165, 60)
_FIXED[shapes.PINK] = (240, 160, 165)


@cache
def _pattern(texture: str, period: int, side: int) -> NDArray[np.bool_]:
    """Return where a texture has its second colour, as (side, side) bool; `period` in pixels."""
    y, x = np.mgrid[:side, :side] % period
    half = period / 2
    if texture == "striped":
        return np.asarray(y < 0.42 * period)
    if texture == "dotted":
        return np.asarray((x - half + 0.5) ** 2 + (y - half + 0.5) ** 2 < (0.31 * period) ** 2)
    return np.asarray((x < half) != (y < half))


def palette(rng: np.random.Generator, colour: str) -> NDArray[np.uint8]:
    """Sample the colours of one thing, one for each role (such as body or glass).

    Args:
        rng: Source of randomness for the shade and the texture's second colour.
        colour: A key of `COLOURS`.

    Returns:
        (11, 3) uint8 RGB, one row per role of `shapes`; row 0 is black and means unpainted.
    """
    paints = _FIXED.copy()
    body = np.clip(np.array(COLOURS[colour]) + rng.uniform(-14, 14, 3), 0, 255)
    bright = body @ (0.299, 0.587, 0.114)
    paints[shapes.BODY] = body
    paints[shapes.SHADE] = body * 0.72 if bright > 60 else body + 42
    paints[shapes.EDGE] = body * 0.35 if bright > 60 else body + 75
    contrast = 1.0 if bright < 60 else 0.0 if bright > 190 else float(rng.random() < 0.6)
    paints[shapes.SECOND] = body + (0.8 if contrast else -0.68) * (
        (255 - body) if contrast else body
    )
    rng.integers(4), rng.integers(4)  # unused; later draws depend on them
    paints[1:] = np.clip(paints[1:], 1, 255)
    return paints.astype(np.uint8)


def paint(
    drawing: list[Shape],
    points: NDArray[np.float64],
    unit: float,
    paints: NDArray[np.uint8],
    texture: str,
    period: int,
    shape: tuple[int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render one thing, anti-aliased, on its own canvas.

    Args:
        drawing: The shapes, back to front.
        points: (N, 2) points of all shapes, concatenated, in pixels of the canvas.
        unit: Pixels per unit of the thing's frame, to scale line widths.
        paints: (11, 3) uint8 RGB, see `palette`.
        texture: A value of `TEXTURES`.
        period: Pixels between repetitions of the texture, at least 3.
        shape: Height and width of the canvas in pixels.

    Returns:
        Colours multiplied by opacity, (h, w, 3) uint8, and opacity, (h, w) uint8 in [0, 255].
    """
    height, width = shape
    numbers = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    fixed_point = np.round(points * (SUPERSAMPLING << _SHIFT)).astype(np.int32)
    start = 0
    for drawn in drawing:
        stop = start + len(drawn.points)
        contour = fixed_point[start:stop]
        start = stop
        if drawn.width:
            thickness = max(1, round(drawn.width * unit * SUPERSAMPLING))
            cv2.polylines(
                numbers, [contour], drawn.closed, drawn.role, thickness, cv2.LINE_8, _SHIFT
            )
        else:
            cv2.fillPoly(numbers, [contour], drawn.role, cv2.LINE_8, _SHIFT)
    if texture != "plain":
        side = _PATTERN_STEP * -(-max(numbers.shape) // _PATTERN_STEP)
        pattern = _pattern(texture, period * SUPERSAMPLING, side)
        pattern = pattern[: numbers.shape[0], : numbers.shape[1]]
        numbers[(numbers == shapes.BODY) & pattern] = shapes.SECOND
    painted = cv2.threshold(numbers, 0, 255, cv2.THRESH_BINARY)[1]
    grown = cv2.dilate(painted, _NEIGHBOURS)
    numbers[grown != painted] = shapes.EDGE
    size = (width, height)
    colours = cv2.resize(paints[numbers], size, interpolation=cv2.INTER_AREA)
    return np.asarray(colours, np.uint8), np.asarray(
        cv2.resize(grown, size, interpolation=cv2.INTER_AREA), np.uint8
    )


_INSIDE, _OUTER = 0.5, 0.4  # pixels: centre, outward shift; 0.5 ± 0.4 is in the same pixel


def polygons_of(mask: NDArray[np.bool_]) -> list[list[list[float]]]:
    """Trace a mask as polygons without holes.

    Each vertex is in a boundary pixel of the mask, 0.4 pixels outward from the pixel's centre. The
    polygons therefore reproduce the mask with PhraseCut's rasterizer, which truncates vertices to
    whole pixels and draws outlines, and with COCO's rasterizer, which fills areas. One exception:
    if a part of the mask is a line, one pixel wide and at least three pixels long, its end vertices
    are in the centres of the end pixels, and COCO's rasterizer drops the end pixels.

    Args:
        mask: (H, W) bool, at least one pixel.

    Returns:
        Polygons of [x, y] points in pixels, x in [0, W), y in [0, H); their union is the mask.
    """
    return [
        polygon for piece, left in _without_holes(mask, 0) for polygon in _outlines(piece, left)
    ]


def _without_holes(mask: NDArray[np.bool_], left: int) -> list[tuple[NDArray[np.bool_], int]]:
    """Split a mask along a column through each hole, because a polygon cannot have holes.

    Returns:
        Pieces of the mask, each with the column of the full mask at which it starts.
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
            direction = np.roll(points, -1, 0) - np.roll(points, 1, 0)
            # (-dy, dx) points outward: OpenCV traces all outer contours in the same direction
            points = points + _OUTER * np.sign(np.stack((-direction[:, 1], direction[:, 0]), 1))
        points = points[_corners(points)] + (left + _INSIDE, _INSIDE)
        outlines.append([[round(x, 1), round(y, 1)] for x, y in points.tolist()])
    return outlines


def _corners(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the mask of the points at which a closed line changes direction."""
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    turn = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-6
    back = (before * after).sum(1) < 0
    return np.asarray(turn | back)
