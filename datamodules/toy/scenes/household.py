"""Clip art of the household kinds: bottle, chair, diningtable, pottedplant, sofa, tvmonitor."""

import numpy as np

from datamodules.toy.scenes.parts import (
    BODY,
    DARK,
    GLASS,
    LEAF,
    LIGHT,
    PINK,
    SHADE,
    WARM,
    Part,
    box,
    disc,
    polygon,
    stroke,
)


def bottle(rng: np.random.Generator) -> list[Part]:
    """Draw a slim body, a narrow neck with a cap, and a light label."""
    neck = rng.uniform(-0.5, -0.3)
    wide = rng.uniform(0.27, 0.36)
    return [
        polygon(
            BODY,
            (-wide, 0.95),
            (-wide, neck + 0.32),
            (-0.12, neck),
            (-0.12, -0.85),
            (0.12, -0.85),
            (0.12, neck),
            (wide, neck + 0.32),
            (wide, 0.95),
        ),
        box(DARK, -0.16, -1.0, 0.16, -0.78),
        box(LIGHT, -wide, 0.15, wide, 0.6),
        stroke(SHADE, 0.07, (-0.5 * wide, 0.38), (0.5 * wide, 0.38)),
        stroke(GLASS, 0.07, (-0.6 * wide, neck + 0.4), (-0.6 * wide, 0.1)),
    ]


def chair(rng: np.random.Generator) -> list[Part]:
    """Draw an upright back, a seat and four long thin legs."""
    lean = rng.uniform(0.0, 0.14)
    bars = rng.random() < 0.5
    back = (
        [
            stroke(BODY, 0.11, (-0.5 + lean * t, 0.1), (-0.62 + x, -0.95))
            for t, x in ((0, 0.1), (1, 0.35), (2, 0.6))
        ]
        + [
            stroke(BODY, 0.15, (-0.56, -0.92), (0.02, -0.92)),
            stroke(BODY, 0.12, (-0.5, -0.4), (0.0, -0.4)),
        ]
        if bars
        else [
            polygon(BODY, (-0.62, 0.1), (-0.66 - lean, -0.98), (-0.4 - lean, -0.98), (-0.32, 0.1))
        ]
    )
    return [
        stroke(SHADE, 0.11, (-0.25, 0.15), (-0.25, 0.75)),
        stroke(SHADE, 0.11, (0.6, 0.15), (0.6, 0.75)),
        *back,
        polygon(BODY, (-0.6, 0.22), (-0.35, -0.02), (0.68, -0.02), (0.5, 0.22)),
        stroke(BODY, 0.13, (-0.54, 0.2), (-0.56, 0.98)),
        stroke(BODY, 0.13, (0.46, 0.2), (0.48, 0.98)),
    ]


def diningtable(rng: np.random.Generator) -> list[Part]:
    """Draw a wide flat top with a plate and a cup, on legs at its corners or on one foot."""
    top = rng.uniform(-0.28, -0.12)
    setting = [
        disc(LIGHT, -0.2, top + 0.02, 0.28, 0.09),
        polygon(
            WARM, (0.32, top - 0.26), (0.56, top - 0.26), (0.52, top + 0.05), (0.36, top + 0.05)
        ),
    ]
    if rng.random() < 0.3:
        return [
            polygon(
                SHADE, (-0.12, top), (0.12, top), (0.12, 0.7), (0.5, 0.9), (-0.5, 0.9), (-0.12, 0.7)
            ),
            disc(BODY, 0.0, top + 0.05, 1.0, 0.26),
            *setting,
        ]
    return [
        stroke(SHADE, 0.12, (-0.62, top), (-0.62, 0.62)),
        stroke(SHADE, 0.12, (0.62, top), (0.62, 0.62)),
        polygon(BODY, (-1.0, top + 0.2), (-0.7, top - 0.14), (0.7, top - 0.14), (1.0, top + 0.2)),
        box(SHADE, -1.0, top + 0.18, 1.0, top + 0.3),
        stroke(BODY, 0.15, (-0.92, top + 0.25), (-0.92, 0.95)),
        stroke(BODY, 0.15, (0.92, top + 0.25), (0.92, 0.95)),
        *setting,
    ]


def pottedplant(rng: np.random.Generator) -> list[Part]:
    """Draw green leaves over a tapering pot; pot and flowers have the thing's colour."""
    angles = np.linspace(-1.1, 1.1, 6) + rng.uniform(-0.12, 0.12, 6)
    length = rng.uniform(0.38, 0.52)
    leaves = [
        disc(
            LEAF,
            1.0 * length * np.sin(a),
            0.2 - 1.35 * length * np.cos(a),
            length,
            0.15,
            a - np.pi / 2,
        )
        for a in angles
    ]
    flowers = [
        disc(BODY, 1.6 * length * np.sin(a), 0.2 - 2.1 * length * np.cos(a), 0.15)
        for a in angles[1::2]
    ]
    return [
        *leaves,
        *(flowers if rng.random() < 0.5 else []),
        polygon(BODY, (-0.42, 0.3), (0.42, 0.3), (0.3, 0.98), (-0.3, 0.98)),
        box(SHADE, -0.48, 0.2, 0.48, 0.36),
    ]


def sofa(rng: np.random.Generator) -> list[Part]:
    """Draw a long back, two fat arms, seat cushions and stub feet, wide and low."""
    feet = (
        stroke(DARK, 0.14, (-0.8, 0.5), (-0.8, 0.72)),
        stroke(DARK, 0.14, (0.8, 0.5), (0.8, 0.72)),
    )
    pillow = (
        [polygon(PINK, (-0.6, -0.1), (-0.45, -0.3), (-0.25, -0.08), (-0.4, 0.12))]
        if rng.random() < 0.4
        else []
    )
    return [
        *feet,
        polygon(
            BODY,
            (-0.85, 0.3),
            (-0.82, -0.42),
            (-0.72, -0.52),
            (0.72, -0.52),
            (0.82, -0.42),
            (0.85, 0.3),
        ),
        stroke(SHADE, 0.05, (0.0, -0.48), (0.0, 0.1)),
        box(SHADE, -0.75, 0.08, 0.75, 0.5),
        box(BODY, -0.72, 0.1, -0.03, 0.28),
        box(BODY, 0.03, 0.1, 0.72, 0.28),
        *pillow,
        polygon(BODY, (-1.0, 0.55), (-1.0, -0.05), (-0.9, -0.16), (-0.72, -0.08), (-0.7, 0.55)),
        polygon(BODY, (1.0, 0.55), (1.0, -0.05), (0.9, -0.16), (0.72, -0.08), (0.7, 0.55)),
    ]


def tvmonitor(rng: np.random.Generator) -> list[Part]:
    """Draw a thick frame around a shining screen, with aerials and knobs or with a stand."""
    screen = [
        polygon(GLASS, (-0.3, -0.42), (0.05, -0.42), (-0.4, 0.28), (-0.62, 0.28)),
    ]
    if rng.random() < 0.5:
        return [
            stroke(DARK, 0.08, (0.0, -0.6), (-0.45, -1.05)),
            stroke(DARK, 0.08, (0.0, -0.6), (0.45, -1.05)),
            stroke(DARK, 0.16, (-0.55, 0.55), (-0.65, 0.78)),
            stroke(DARK, 0.16, (0.55, 0.55), (0.65, 0.78)),
            box(BODY, -0.95, -0.66, 0.95, 0.6),
            box(DARK, -0.75, -0.48, 0.5, 0.42),
            *screen,
            disc(WARM, 0.72, -0.3, 0.12),
            disc(LIGHT, 0.72, 0.05, 0.12),
        ]
    return [
        box(SHADE, -0.13, 0.5, 0.13, 0.85),
        box(BODY, -0.5, 0.78, 0.5, 0.95),
        box(BODY, -0.98, -0.7, 0.98, 0.6),
        box(DARK, -0.78, -0.52, 0.78, 0.42),
        *screen,
        polygon(GLASS, (0.2, -0.42), (0.32, -0.42), (-0.1, 0.28), (-0.22, 0.28)),
    ]
