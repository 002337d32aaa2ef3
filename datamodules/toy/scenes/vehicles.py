"""Clip art of the vehicles: aeroplane, bicycle, boat, bus, car, motorbike, train."""

import numpy as np

from datamodules.toy.scenes.parts import (
    BODY,
    DARK,
    GLASS,
    LIGHT,
    SHADE,
    WARM,
    Part,
    box,
    disc,
    polygon,
    ring,
    stroke,
)


def _wheels(radius: float, y: float, *xs: float) -> list[Part]:
    """Draw dark tyres with a light hub."""
    return [
        disc(role, x, y, size)
        for x in xs
        for role, size in ((DARK, radius), (LIGHT, 0.45 * radius))
    ]


def aeroplane(rng: np.random.Generator) -> list[Part]:
    """Draw a fuselage with swept wings, tail fin and windows, from the side or from above."""
    sweep = rng.uniform(0.3, 0.55)
    if rng.random() < 0.35:
        return [
            polygon(SHADE, (0.3, -0.1), (0.0 - sweep, -1.0), (-0.2 - sweep, -1.0), (-0.2, -0.1)),
            polygon(SHADE, (0.3, 0.1), (0.0 - sweep, 1.0), (-0.2 - sweep, 1.0), (-0.2, 0.1)),
            polygon(
                SHADE,
                (-0.65, 0.0),
                (-1.0, -0.42),
                (-1.08, -0.42),
                (-0.92, 0.0),
                (-1.08, 0.42),
                (-1.0, 0.42),
            ),
            disc(BODY, 0.0, 0.0, 1.0, 0.16),
            polygon(GLASS, (0.72, -0.1), (0.86, -0.07), (0.86, 0.07), (0.72, 0.1)),
            disc(LIGHT, 0.0, -0.5, 0.16, 0.08),
            disc(LIGHT, 0.0, 0.5, 0.16, 0.08),
        ]
    return [
        polygon(SHADE, (0.15, -0.1), (-0.15 - sweep, -0.55), (-0.3 - sweep, -0.55), (-0.25, -0.1)),
        polygon(BODY, (-0.6, -0.1), (-1.0, -0.72), (-0.82, -0.72), (-0.3, -0.15)),
        disc(BODY, 0.0, 0.0, 1.0, 0.23),
        polygon(SHADE, (-0.75, -0.02), (-1.08, 0.18), (-0.92, 0.18), (-0.5, 0.02)),
        *[disc(GLASS, x, -0.07, 0.065) for x in np.linspace(-0.5, 0.5, 6)],
        polygon(GLASS, (0.68, -0.17), (0.84, -0.13), (0.92, -0.03), (0.68, -0.03)),
        polygon(SHADE, (0.2, 0.06), (-0.2 - sweep, 0.72), (-0.4 - sweep, 0.72), (-0.25, 0.06)),
        disc(LIGHT, -0.1, 0.32, 0.16, 0.09),
    ]


def bicycle(rng: np.random.Generator) -> list[Part]:
    """Draw two thin wheels, an open frame in the thing's colour, a saddle and a handlebar."""
    tyre = int(rng.choice((DARK, BODY), p=(0.7, 0.3)))
    return [
        ring(tyre, -0.56, 0.34, 0.42, 0.09),
        ring(tyre, 0.56, 0.34, 0.42, 0.09),
        stroke(
            BODY, 0.13, (-0.56, 0.34), (-0.25, -0.3), (0.4, -0.34), (-0.02, 0.36), (-0.56, 0.34)
        ),
        stroke(BODY, 0.13, (-0.02, 0.36), (-0.3, -0.45)),
        stroke(BODY, 0.13, (0.56, 0.34), (0.36, -0.56)),
        stroke(DARK, 0.12, (-0.48, -0.5), (-0.14, -0.5)),
        stroke(DARK, 0.1, (0.2, -0.66), (0.38, -0.6), (0.56, -0.7)),
        disc(SHADE, -0.02, 0.36, 0.11),
    ]


def boat(rng: np.random.Generator) -> list[Part]:
    """Draw a hull with sails on a mast, or a motor boat with a cabin and a funnel."""
    hull = polygon(BODY, (-1.0, 0.3), (1.0, 0.3), (0.7, 0.85), (-0.68, 0.85))
    trim = stroke(LIGHT, 0.09, (-0.92, 0.42), (0.92, 0.42))
    if rng.random() < 0.65:
        lean = rng.uniform(-0.06, 0.1)
        return [
            stroke(DARK, 0.09, (0.02, 0.3), (0.02, -1.0)),
            polygon(LIGHT, (-0.08, 0.16), (-0.08, -0.88), (-0.75 + lean, 0.16)),
            polygon(BODY, (0.12, 0.16), (0.12, -0.95), (0.85 + lean, 0.16)),
            hull,
            trim,
        ]
    return [
        box(LIGHT, -0.5, -0.2, 0.4, 0.32),
        box(BODY, -0.15, -0.75, 0.15, -0.2),
        box(DARK, -0.15, -0.75, 0.15, -0.6),
        *[disc(GLASS, x, 0.05, 0.1) for x in (-0.3, 0.0, 0.25)],
        hull,
        trim,
    ]


def bus(rng: np.random.Generator) -> list[Part]:
    """Draw a long tall box with windows, a door and two wheels; sometimes a double-decker."""
    top = -0.9 if rng.random() < 0.35 else -0.5
    rows = (-0.78, -0.32) if top < -0.8 else (-0.36,)
    return [
        polygon(
            BODY,
            (-1.0, top + 0.08),
            (-0.92, top),
            (0.92, top),
            (1.0, top + 0.1),
            (1.0, 0.5),
            (-1.0, 0.5),
        ),
        *[box(GLASS, x, y, x + 0.28, y + 0.3) for y in rows for x in (-0.9, -0.55, -0.2, 0.15)],
        box(GLASS, 0.66, rows[-1], 1.0, rows[-1] + 0.38),
        box(SHADE, 0.5, rows[-1], 0.62, 0.5),
        stroke(SHADE, 0.07, (-1.0, 0.2), (0.48, 0.2)),
        disc(WARM, 0.94, 0.3, 0.08),
        *_wheels(0.2, 0.52, -0.58, 0.52),
    ]


def car(rng: np.random.Generator) -> list[Part]:
    """Draw a low body with a rounded cabin over two big wheels."""
    roof = rng.uniform(-0.48, -0.36)
    back = rng.uniform(-0.75, -0.5)
    return [
        polygon(BODY, (back, 0.02), (back + 0.2, roof), (0.25, roof), (0.55, 0.02)),
        polygon(
            BODY, (-1.0, 0.42), (-0.98, 0.02), (-0.9, -0.04), (0.6, -0.02), (0.95, 0.1), (1.0, 0.42)
        ),
        polygon(
            GLASS,
            (back + 0.12, 0.0),
            (back + 0.26, roof + 0.09),
            (-0.15, roof + 0.09),
            (-0.15, 0.0),
        ),
        polygon(GLASS, (-0.05, 0.0), (-0.05, roof + 0.09), (0.2, roof + 0.09), (0.42, 0.0)),
        stroke(SHADE, 0.05, (-0.1, 0.0), (-0.1, 0.36)),
        disc(WARM, 0.93, 0.18, 0.08),
        *_wheels(0.25, 0.42, -0.55, 0.55),
    ]


def motorbike(rng: np.random.Generator) -> list[Part]:
    """Draw two fat wheels under a solid body: tank, seat, exhaust, fork and headlight."""
    bars = rng.uniform(-0.7, -0.5)
    return [
        ring(DARK, -0.58, 0.38, 0.32, 0.2),
        ring(DARK, 0.6, 0.38, 0.32, 0.2),
        disc(LIGHT, -0.58, 0.38, 0.13),
        disc(LIGHT, 0.6, 0.38, 0.13),
        stroke(LIGHT, 0.12, (0.6, 0.38), (0.34, -0.3)),
        stroke(LIGHT, 0.13, (-0.95, 0.42), (-0.1, 0.42)),
        polygon(SHADE, (-0.3, -0.02), (0.3, -0.02), (0.2, 0.45), (-0.2, 0.45)),
        polygon(
            BODY,
            (-0.95, -0.2),
            (-0.85, -0.3),
            (-0.1, -0.1),
            (0.05, -0.38),
            (0.42, -0.36),
            (0.5, -0.08),
            (0.1, 0.16),
            (-0.6, 0.12),
        ),
        stroke(DARK, 0.15, (-0.78, -0.3), (-0.12, -0.18)),
        stroke(DARK, 0.1, (0.36, -0.35), (0.16, bars)),
        disc(WARM, 0.52, -0.36, 0.13),
        stroke(BODY, 0.1, (0.32, 0.1), (0.6, -0.02), (0.86, 0.12)),
    ]


def train(rng: np.random.Generator) -> list[Part]:
    """Draw a steam engine: boiler, chimney with smoke, cab, cowcatcher and small wheels."""
    puff = rng.uniform(-0.25, 0.1)
    return [
        disc(LIGHT, 0.55 + puff, -0.88, 0.2, 0.12),
        disc(LIGHT, 0.25 + puff, -0.98, 0.16, 0.1),
        polygon(
            DARK, (0.46, -0.1), (0.5, -0.5), (0.42, -0.7), (0.82, -0.7), (0.74, -0.5), (0.78, -0.1)
        ),
        box(BODY, -0.3, -0.28, 0.88, 0.36),
        disc(WARM, -0.02, -0.3, 0.14),
        disc(SHADE, 0.88, 0.04, 0.1, 0.3),
        box(BODY, -0.95, -0.62, -0.28, 0.4),
        box(SHADE, -1.04, -0.74, -0.18, -0.58),
        box(GLASS, -0.8, -0.46, -0.45, -0.08),
        stroke(WARM, 0.07, (0.2, -0.28), (0.2, 0.36)),
        box(SHADE, -0.98, 0.34, 0.92, 0.48),
        polygon(DARK, (0.8, 0.4), (1.08, 0.76), (0.74, 0.76)),
        *_wheels(0.18, 0.58, -0.74, -0.3, 0.12, 0.54),
    ]
