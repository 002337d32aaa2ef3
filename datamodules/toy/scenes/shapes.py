"""Primitives of the toy world: a thing is a list of flat shapes.

Each shape has a role, such as body or glass. The role is a row of the thing's palette and so gives
the shape its colour. The points of a shape are in the thing's own coordinate system, with x to the
right and y down. Every thing faces right. The body's centre is (0, 0); with all parts, a thing lies
within about [-1.5, 1.3] x [-1.8, 1.2].
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BODY, SHADE, DARK, LIGHT, GLASS, WARM, LEAF, PINK, EDGE, SECOND = range(1, 11)
ROLES = 11  # including 0, unpainted

_CIRCLE = np.stack(
    [
        np.cos(np.linspace(0, 2 * np.pi, 18, endpoint=False)),
        np.sin(np.linspace(0, 2 * np.pi, 18, endpoint=False)),
    ],
    1,
)


class Shape(NamedTuple):
    """One flat shape of a thing.

    Attributes:
        role: One of the constants in this module, such as `BODY`.
        points: (N, 2) float, x and y in the thing's frame.
        width: Line width in units of the frame; 0 fills the polygon.
        closed: Whether a line returns to its first point.
    """

    role: int
    points: NDArray[np.float64]
    width: float = 0.0
    closed: bool = False


def polygon(role: int, *points: tuple[float, float]) -> Shape:
    """Return a filled polygon through `points`."""
    return Shape(role, np.array(points))


def box(role: int, left: float, top: float, right: float, bottom: float) -> Shape:
    """Return a filled axis-aligned box."""
    return Shape(role, np.array(((left, top), (right, top), (right, bottom), (left, bottom))))


def disc(
    role: int, x: float, y: float, radius_x: float, radius_y: float | None = None, tilt: float = 0.0
) -> Shape:
    """Return a filled ellipse; `tilt` in radians rotates it clockwise about its centre."""
    points = _CIRCLE * (radius_x, radius_x if radius_y is None else radius_y)
    if tilt:
        cos, sin = np.cos(tilt), np.sin(tilt)
        points = points @ np.array(((cos, sin), (-sin, cos)))
    return Shape(role, points + np.array((x, y)))


def stroke(role: int, width: float, *points: tuple[float, float]) -> Shape:
    """Return an open line through `points`."""
    return Shape(role, np.array(points), width)


def ring(role: int, x: float, y: float, radius: float, width: float) -> Shape:
    """Return the outline of a circle."""
    return Shape(role, _CIRCLE * radius + (x, y), width, True)
