"""Grammar of parts: a thing has a body and optionally a base, head, top, tail and side part.

Each function that draws a part takes the thing's `Frame` and returns shapes, back to front.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from datamodules.toy.scenes.shapes import (
    BODY,
    DARK,
    GLASS,
    LEAF,
    LIGHT,
    PINK,
    SHADE,
    WARM,
    Shape,
    box,
    disc,
    polygon,
    ring,
    stroke,
)

Point = tuple[float, float]


class Parts(NamedTuple):
    """Value of each slot of the grammar: a key of `SLOTS[slot]`, or "" if the slot is empty."""

    body: str
    base: str = ""
    head: str = ""
    top: str = ""
    tail: str = ""
    side: str = ""


class Proportions(NamedTuple):
    """Factors on the sizes of the parts.

    Attributes:
        width: Factor on the width of the body.
        height: Factor on the height of the body.
        base: Factor on the base.
        head: Factor on the head.
        rest: Factor on the top, the tail and the side; some parts ignore it.
    """

    width: float = 1.0
    height: float = 1.0
    base: float = 1.0
    head: float = 1.0
    rest: float = 1.0


class Frame(NamedTuple):
    """Places where parts are attached. The body's centre is (0, 0); x points right, y points down.

    Attributes:
        width: Half the width of the body.
        height: Half the height of the body.
        neck: Point of the body that carries the head.
        crown: Point that carries the top: on the head, or on the body if there is no head.
        size: Factors on the sizes of the parts.
    """

    width: float
    height: float
    neck: Point
    crown: Point
    size: Proportions


Draw = Callable[[Frame], list[Shape]]


def _spread(width: float, *shares: float) -> list[float]:
    return [share * width for share in shares]


# bodies ------------------------------------------------------------------------------------------


def _round(f: Frame) -> list[Shape]:
    return [disc(BODY, 0, 0, f.width, f.height)]


def _square(f: Frame) -> list[Shape]:
    return [box(BODY, -f.width, -f.height, f.width, f.height)]


def _triangle(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    return [polygon(BODY, (-0.22 * w, -h), (0.22 * w, -h), (w, h), (-w, h))]


def _kite(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    return [polygon(BODY, (-w, 0), (0, -h), (w, 0), (0, h))]


def _bowl(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    return [
        polygon(BODY, (-w, -h), (w, -h), (0.62 * w, h), (-0.62 * w, h)),
        stroke(LIGHT, 0.08, (-0.9 * w, -0.62 * h), (0.9 * w, -0.62 * h)),
    ]


def _dome(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    angles = np.linspace(np.pi, 2 * np.pi, 12)
    arc = [(w * np.cos(a), h + 2 * h * np.sin(a)) for a in angles]
    return [polygon(BODY, *arc)]


def _slab(f: Frame) -> list[Shape]:
    return [
        box(BODY, -f.width, -f.height, f.width, f.height),
        box(SHADE, -f.width, 0.4 * f.height, f.width, f.height),
    ]


def _seat(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    return [
        polygon(BODY, (-w, h), (-1.15 * w, -1.1 * h), (-0.6 * w, -1.1 * h), (-0.5 * w, 0.2 * h),
                (w, 0.2 * h), (w, h)),
        box(SHADE, -0.95 * w, 0.72 * h, w, h),
    ]  # fmt: skip


def _cloud(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    puffs = [
        disc(BODY, 0.68 * w * np.cos(a), 0.6 * h * np.sin(a), 0.36 * w, 0.46 * h)
        for a in np.linspace(0, 2 * np.pi, 8, endpoint=False)
    ]
    return [*puffs, disc(BODY, 0, 0, 0.7 * w, 0.7 * h)]


def _frame(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    return [
        stroke(BODY, 0.17, (-w, h), (-0.45 * w, -h), (0.6 * w, -h), (0, h), (-w, h)),
        stroke(BODY, 0.17, (0, h), (-0.45 * w, -h)),
        stroke(BODY, 0.17, (0.6 * w, -h), (w, h)),
    ]


# bases -------------------------------------------------------------------------------------------


def _legs(f: Frame, width: float, length: float, *shares: float) -> list[Shape]:
    end = f.height + length * f.size.base
    return [
        stroke(SHADE, width, (x, 0.5 * f.height), (1.1 * x, end)) for x in _spread(f.width, *shares)
    ]


def _two_legs(f: Frame) -> list[Shape]:
    end = f.height + 0.48 * f.size.base
    x = min(0.42 * f.width, 0.2)
    feet = [stroke(DARK, 0.13, (s * 1.1 * x, end), (s * 1.1 * x + 0.16, end)) for s in (-1, 1)]
    return [*_legs(f, 0.13, 0.48, -x / f.width, x / f.width), *feet]


def _four_legs(f: Frame) -> list[Shape]:
    return _legs(f, 0.14, 0.48, -0.8, -0.4, 0.4, 0.8)


def _stub_feet(f: Frame) -> list[Shape]:
    y = f.height + 0.06
    return [disc(DARK, x, y, 0.15 * f.size.base, 0.12) for x in _spread(f.width, -0.7, 0.7)]


def _wheels(f: Frame) -> list[Shape]:
    radius = 0.3 * f.size.base
    xs = _spread(max(f.width, 0.45), -0.72, 0.72)
    return [
        shape
        for x in xs
        for shape in (
            ring(DARK, x, f.height + 0.5 * radius, 0.85 * radius, 0.15),
            disc(LIGHT, x, f.height + 0.5 * radius, 0.3 * radius),
        )
    ]


def _stand(f: Frame) -> list[Shape]:
    end = f.height + 0.42 * f.size.base
    return [box(SHADE, -0.09, 0.5 * f.height, 0.09, end), box(SHADE, -0.38, end - 0.1, 0.38, end)]


def _tentacles(f: Frame) -> list[Shape]:
    steps = np.linspace(0, 1, 6)
    start, length = 0.7 * f.height, 0.55 * f.size.base + 0.3 * f.height
    return [
        stroke(SHADE, 0.1, *[(x + 0.09 * np.sin(9 * t), start + length * t) for t in steps])
        for x in _spread(f.width, -0.7, -0.25, 0.25, 0.7)
    ]


def _tracks(f: Frame) -> list[Shape]:
    w, y = 0.95 * max(f.width, 0.4), f.height + 0.14 * f.size.base
    return [
        stroke(DARK, 0.3, (-w, y), (w, y)),
        *[disc(WARM, x, y, 0.09) for x in _spread(w, -0.85, -0.3, 0.3, 0.85)],
    ]


# heads -------------------------------------------------------------------------------------------


def _eye(x: float, y: float) -> list[Shape]:
    return [disc(LIGHT, x, y, 0.08), disc(DARK, x + 0.02, y, 0.045)]


def _centre(f: Frame, radius: float) -> tuple[float, float, float]:
    r = radius * f.size.head
    return f.neck[0], f.neck[1] - 0.6 * r, r


def _round_head(f: Frame) -> list[Shape]:
    x, y, r = _centre(f, 0.3)
    return [disc(BODY, x, y, r), *_eye(x - 0.35 * r, y - 0.1 * r), *_eye(x + 0.4 * r, y - 0.1 * r)]


def _square_head(f: Frame) -> list[Shape]:
    x, y, r = _centre(f, 0.27)
    muzzle = box(PINK, x - r, y + 0.35 * r, x + r, y + r)
    eyes = [*_eye(x - 0.45 * r, y - 0.3 * r), *_eye(x + 0.45 * r, y - 0.3 * r)]
    return [box(BODY, x - r, y - r, x + r, y + r), muzzle, *eyes]


def _snout(f: Frame) -> list[Shape]:
    x, y, r = _centre(f, 0.27)
    nose = polygon(BODY, (x, y - 0.5 * r), (x + 2.1 * r, y + 0.1 * r), (x + 2.0 * r, y + 0.7 * r),
                   (x, y + 0.9 * r))  # fmt: skip
    return [disc(BODY, x, y, r), nose, disc(DARK, x + 2.0 * r, y + 0.3 * r, 0.36 * r),
            *_eye(x + 0.3 * r, y - 0.3 * r)]  # fmt: skip


def _beak(f: Frame) -> list[Shape]:
    x, y, r = _centre(f, 0.25)
    bill = polygon(WARM, (x + 0.6 * r, y - 0.55 * r), (x + 2.2 * r, y + 0.1 * r),
                   (x + 0.6 * r, y + 0.6 * r))  # fmt: skip
    return [bill, disc(BODY, x, y, r), *_eye(x + 0.3 * r, y - 0.2 * r)]


def _long_neck(f: Frame) -> list[Shape]:
    x, y = f.neck
    head = 0.62 * f.size.head
    return [
        stroke(BODY, 0.2, (x - 0.1, y + 0.15), (x + 0.12, y - head)),
        disc(BODY, x + 0.22, y - head, 0.24, 0.15, 0.25),
        *_eye(x + 0.2, y - head - 0.02),
    ]


def _bottleneck(f: Frame) -> list[Shape]:
    x, y = f.neck
    top = y - 0.38 * f.size.head
    return [
        polygon(BODY, (x - 0.26, y + 0.12), (x - 0.1, y - 0.12), (x - 0.1, top), (x + 0.1, top),
                (x + 0.1, y - 0.12), (x + 0.26, y + 0.12)),
        box(DARK, x - 0.15, top - 0.1, x + 0.15, top + 0.04),
    ]  # fmt: skip


_HEAD_HEIGHT = {
    "": 0.0, "round head": 0.42, "square head": 0.4, "snout": 0.36, "beak": 0.34, "long neck": 0.7,
    "bottleneck": 0.46,
}  # fmt: skip
"""Head -> height of the crown above the neck."""

# tops --------------------------------------------------------------------------------------------


def _ears(f: Frame) -> list[Shape]:
    x, y = f.crown
    s = 0.3 * f.size.rest
    return [
        shape
        for side in (-1, 1)
        for shape in (
            polygon(BODY, (x + side * 0.05, y + 0.12), (x + side * 0.3, y + 0.16),
                    (x + side * 0.28, y - s)),
            polygon(PINK, (x + side * 0.13, y + 0.08), (x + side * 0.25, y + 0.1),
                    (x + side * 0.25, y - 0.6 * s)),
        )
    ]  # fmt: skip


def _horns(f: Frame) -> list[Shape]:
    x, y = f.crown
    s = 0.34 * f.size.rest
    return [
        stroke(LIGHT, 0.11, (x + side * 0.1, y + 0.08), (x + side * 0.3, y - 0.1),
               (x + side * 0.26, y - s))
        for side in (-1, 1)
    ]  # fmt: skip


def _antenna(f: Frame) -> list[Shape]:
    x, y = f.crown
    s = 0.4 * f.size.rest
    return [
        shape
        for side in (-1, 1)
        for shape in (
            stroke(DARK, 0.07, (x, y + 0.1), (x + side * 0.22, y - s)),
            disc(WARM, x + side * 0.22, y - s, 0.1),
        )
    ]


def _crest(f: Frame) -> list[Shape]:
    x, y = f.crown
    s = 0.3 * f.size.rest
    return [
        polygon(WARM, (x + dx - 0.11, y + 0.08), (x + dx + 0.11, y + 0.08), (x + dx - 0.05, y - s))
        for dx in (-0.2, 0.0, 0.2)
    ]


def _sail(f: Frame) -> list[Shape]:
    x, y = f.crown
    s = 0.8 * f.size.rest
    return [
        stroke(DARK, 0.08, (x, y + 0.1), (x, y - s)),
        polygon(LIGHT, (x + 0.07, y - s), (x + 0.07, y - 0.06), (x + 0.55, y - 0.06)),
        polygon(BODY, (x - 0.07, y - 0.8 * s), (x - 0.07, y - 0.06), (x - 0.45, y - 0.06)),
    ]


def _leaves(f: Frame) -> list[Shape]:
    x, y = f.crown
    s = 0.36 * f.size.rest
    return [
        disc(LEAF, x + 0.9 * s * np.sin(a), y + 0.06 - 0.95 * s * np.cos(a), s, 0.13, a - np.pi / 2)
        for a in (-1.15, -0.6, 0.0, 0.6, 1.15)
    ]


def _chimney(f: Frame) -> list[Shape]:
    x, y = f.crown
    top = y - 0.36 * f.size.rest
    return [
        disc(LIGHT, x - 0.16, top - 0.18, 0.2, 0.12),
        box(DARK, x - 0.1, top, x + 0.1, y + 0.1),
        box(DARK, x - 0.17, top - 0.04, x + 0.17, top + 0.09),
    ]


def _handlebar(f: Frame) -> list[Shape]:
    x, y = f.crown
    top = y - 0.26 * f.size.rest
    return [
        stroke(DARK, 0.1, (x, y + 0.12), (x + 0.06, top)),
        stroke(DARK, 0.12, (x - 0.2, top - 0.06), (x + 0.06, top), (x + 0.26, top - 0.1)),
    ]


# tails -------------------------------------------------------------------------------------------


def _stick(f: Frame) -> list[Shape]:
    x, s = -f.width, 0.45 * f.size.rest
    return [stroke(SHADE, 0.11, (x + 0.12, 0), (x - s, -0.3))]


def _ball(f: Frame) -> list[Shape]:
    x, s = -f.width, 0.22 * f.size.rest
    return [stroke(SHADE, 0.09, (x + 0.12, 0), (x - s, -0.12)), disc(LIGHT, x - s, -0.14, 0.16)]


def _fork(f: Frame) -> list[Shape]:
    x, s = -f.width, 0.34 * f.size.rest
    return [
        stroke(SHADE, 0.11, (x + 0.12, 0), (x - 0.12, 0)),
        stroke(SHADE, 0.11, (x - s, -0.26), (x - 0.1, 0), (x - s, 0.26)),
    ]


def _fan(f: Frame) -> list[Shape]:
    x, s = -f.width, 0.38 * f.size.rest
    return [polygon(SHADE, (x + 0.12, 0), (x - s, -0.32), (x - 1.2 * s, 0), (x - s, 0.32))]


def _curl(f: Frame) -> list[Shape]:
    x, s = -f.width, 0.2 * f.size.rest
    angles = np.linspace(0.5 * np.pi, 2.2 * np.pi, 9)
    curl = [(x - 0.12 + s * np.cos(a), -0.22 + s * np.sin(a)) for a in angles]
    return [stroke(SHADE, 0.1, (x + 0.12, 0), *curl)]


def _fin(f: Frame) -> list[Shape]:
    x, s = -f.width, 0.42 * f.size.rest
    y = -0.4 * f.height
    tip = -f.height - 0.8 * s
    return [polygon(SHADE, (x + 0.1, y), (x - 0.2, tip), (x + 0.04, tip), (x + 0.5, y))]


# sides -------------------------------------------------------------------------------------------


def _wings(f: Frame) -> list[Shape]:
    s = 0.75 * f.size.rest
    return [
        polygon(SHADE, (0.22, 0.05), (-0.1, -s), (-0.45, -s - 0.04), (-0.25, 0.05)),
        polygon(SHADE, (0.22, 0.05), (-0.15, 0.6 * s), (-0.4, 0.6 * s), (-0.25, 0.05)),
    ]


def _arms(f: Frame) -> list[Shape]:
    y, s = -0.45 * f.height, 0.34 * f.size.rest
    return [
        stroke(SHADE, 0.12, (side * 0.7 * f.width, y), (side * (f.width + s), y + 0.35))
        for side in (-1, 1)
    ]


def _windows(f: Frame) -> list[Shape]:
    y, h = -0.35 * f.height, 0.4 * f.height
    return [
        box(GLASS, x - 0.16 * f.width, y - h, x + 0.16 * f.width, y + h)
        for x in _spread(f.width, -0.55, 0.0, 0.55)
    ]


def _screen(f: Frame) -> list[Shape]:
    w, h = 0.72 * f.width, 0.65 * f.height
    return [
        box(DARK, -w, -h, w, h),
        polygon(GLASS, (0.1 * w, -0.8 * h), (0.5 * w, -0.8 * h), (-0.3 * w, 0.8 * h),
                (-0.7 * w, 0.8 * h)),
    ]  # fmt: skip


def _patches(f: Frame) -> list[Shape]:
    w, h = f.width, f.height
    return [
        disc(LIGHT, -0.4 * w, -0.2 * h, 0.3 * w, 0.36 * h),
        disc(LIGHT, 0.35 * w, 0.25 * h, 0.24 * w, 0.32 * h),
    ]


def _saddle(f: Frame) -> list[Shape]:
    y = -f.height
    return [
        stroke(DARK, 0.2, (-0.36, y - 0.06), (0.0, y + 0.06), (0.26, y)),
        stroke(WARM, 0.08, (-0.05, y + 0.05), (-0.05, 0.5 * f.height)),
    ]


def _cushion(f: Frame) -> list[Shape]:
    s = 0.26 * f.size.rest
    return [polygon(PINK, (-s, 0), (0, -s), (s, 0), (0, s)), disc(LIGHT, 0, 0, 0.07)]


# slots -------------------------------------------------------------------------------------------

_BODIES: dict[str, tuple[float, float, Point]] = {
    "round body": (0.5, 0.46, (0.7, -0.62)),
    "square body": (0.52, 0.42, (0.75, -0.85)),
    "tall body": (0.3, 0.56, (0.0, -0.95)),
    "long body": (0.78, 0.27, (0.8, -0.5)),
    "triangle body": (0.5, 0.5, (0.0, -0.95)),
    "kite body": (0.56, 0.52, (0.0, -0.85)),
    "bowl body": (0.7, 0.32, (0.72, -0.95)),
    "dome body": (0.64, 0.34, (0.62, -0.5)),
    "slab body": (0.85, 0.15, (0.75, -0.95)),
    "seat body": (0.55, 0.5, (0.55, 0.2)),
    "cloud body": (0.66, 0.44, (0.78, -0.5)),
    "frame body": (0.6, 0.36, (0.6, -1.0)),
}
"""Body -> half its width, half its height, and the neck (x, y) in multiples of these."""

SLOTS: dict[str, dict[str, Draw]] = {
    "body": {
        "round body": _round, "square body": _square, "tall body": _square, "long body": _round,
        "triangle body": _triangle, "kite body": _kite, "bowl body": _bowl, "dome body": _dome,
        "slab body": _slab, "seat body": _seat, "cloud body": _cloud, "frame body": _frame,
    },
    "base": {
        "two legs": _two_legs, "four legs": _four_legs, "stub feet": _stub_feet, "wheels": _wheels,
        "stand": _stand, "tentacles": _tentacles, "tracks": _tracks,
    },
    "head": {
        "round head": _round_head, "square head": _square_head, "snout": _snout, "beak": _beak,
        "long neck": _long_neck, "bottleneck": _bottleneck,
    },
    "top": {
        "ears": _ears, "horns": _horns, "antenna": _antenna, "crest": _crest, "sail": _sail,
        "leaves": _leaves, "chimney": _chimney, "handlebar": _handlebar,
    },
    "tail": {
        "stick tail": _stick, "ball tail": _ball, "forked tail": _fork, "fan tail": _fan,
        "curly tail": _curl, "fin": _fin,
    },
    "side": {
        "wings": _wings, "arms": _arms, "windows": _windows, "screen": _screen,
        "patches": _patches, "saddle": _saddle, "cushion": _cushion,
    },
}  # fmt: skip
"""Slot -> value -> function that draws it. Captions use the values as names of parts."""

_ORDER = ("base", "tail", "body", "side", "top", "head")  # back to front
_VARIATION = 0.08  # maximum relative difference between the proportions of an instance and its kind


def draw(parts: Parts, proportions: Proportions, rng: np.random.Generator) -> list[Shape]:
    """Draw one instance, facing right.

    Args:
        parts: The value of each slot.
        proportions: Proportions of the kind; those of the instance differ from them by up to 8 %.
        rng: The only source of randomness.

    Returns:
        Shapes, back to front.
    """
    size = Proportions(
        *np.array(proportions) * rng.uniform(1 - _VARIATION, 1 + _VARIATION, len(proportions))
    )
    half_width, half_height, (x, y) = _BODIES[parts.body]
    width, height = half_width * size.width, half_height * size.height
    neck = (x * width, y * height)
    crown = (neck[0], neck[1] - _HEAD_HEIGHT[parts.head] * size.head)
    if parts.head == "long neck":
        crown = (crown[0] + 0.16, crown[1])
    if not parts.head:
        crown = (0.45 * width if parts.top == "handlebar" else 0.0, -0.92 * height)
    if not parts.head and parts.body == "seat body":
        crown = (-0.85 * width, -height)
    frame = Frame(width, height, neck, crown, size)
    drawn = ((slot, getattr(parts, slot)) for slot in _ORDER)
    return [shape for slot, value in drawn if value for shape in SLOTS[slot][value](frame)]
