"""Clip art of the animals: bird, cat, cow, dog, horse, sheep."""

import numpy as np

from datamodules.toy.scenes.parts import (
    BODY,
    DARK,
    HAIR,
    LIGHT,
    PINK,
    SHADE,
    WARM,
    Part,
    disc,
    polygon,
    stroke,
)


def _legs(
    rng: np.random.Generator,
    role: int,
    hips: tuple[float, ...],
    top: float,
    bottom: float,
    width: float,
) -> list[Part]:
    """Draw a straight leg down from each x in `hips`; each foot is shifted sideways at random."""
    steps = rng.uniform(-0.14, 0.14, len(hips))
    return [
        stroke(role, width, (x, top), (x + step, bottom))
        for x, step in zip(hips, steps, strict=True)
    ]


def bird(rng: np.random.Generator) -> list[Part]:
    """Draw a round body, fan tail and beak, standing on thin legs or flying with spread wings."""
    if rng.random() < 0.5:
        lift = rng.uniform(0.7, 0.95)
        return [
            polygon(SHADE, (0.05, -0.05), (0.15, -lift), (-0.45, -lift - 0.05), (-0.35, 0.0)),
            polygon(BODY, (-0.5, -0.02), (-1.0, -0.3), (-0.95, 0.25)),
            disc(BODY, -0.05, 0.05, 0.58, 0.28, -0.1),
            disc(BODY, 0.55, -0.1, 0.26),
            polygon(WARM, (0.74, -0.24), (1.08, -0.06), (0.74, 0.04)),
            disc(DARK, 0.6, -0.16, 0.07),
            polygon(SHADE, (0.2, 0.05), (-0.1, lift), (-0.6, lift + 0.05), (-0.35, 0.0)),
        ]
    return [
        *_legs(rng, WARM, (-0.08, 0.14), 0.45, 0.98, 0.08),
        polygon(BODY, (-0.45, 0.05), (-1.05, 0.2), (-0.95, 0.5), (-0.3, 0.4)),
        disc(BODY, -0.02, 0.2, 0.55, 0.4, -0.25),
        disc(BODY, 0.42, -0.32, 0.32),
        polygon(WARM, (0.66, -0.48), (1.06, -0.28), (0.66, -0.14)),
        disc(DARK, 0.5, -0.4, 0.08),
        disc(SHADE, -0.15, 0.2, 0.36, 0.22, 0.35),
    ]


def cat(rng: np.random.Generator) -> list[Part]:
    """Draw a round head with pointed ears and whiskers and a curling tail, sitting or walking."""
    if rng.random() < 0.6:
        curl = rng.uniform(0.6, 1.0)
        body = [
            stroke(SHADE, 0.17, (-0.3, 0.8), (-0.8, 0.75), (-0.9 * curl, 0.2), (-0.65, -0.1)),
            disc(BODY, 0.0, 0.45, 0.5, 0.56),
            stroke(SHADE, 0.1, (-0.1, 0.55), (-0.1, 0.95)),
            stroke(SHADE, 0.1, (0.15, 0.55), (0.15, 0.95)),
        ]
        x, y, size = 0.03, -0.38, 0.46
    else:
        body = [
            stroke(BODY, 0.16, (-0.7, 0.1), (-0.95, -0.3), (-0.85, -0.75), (-0.6, -0.85)),
            *_legs(rng, SHADE, (-0.55, -0.3, 0.2, 0.42), 0.3, 0.9, 0.17),
            disc(BODY, -0.1, 0.2, 0.72, 0.33),
        ]
        x, y, size = 0.58, -0.2, 0.4
    return [
        *body,
        polygon(
            BODY,
            (x - size, y - 0.1 * size),
            (x - 0.85 * size, y - 1.65 * size),
            (x - 0.05 * size, y - 0.8 * size),
        ),
        polygon(
            BODY,
            (x + size, y - 0.1 * size),
            (x + 0.85 * size, y - 1.65 * size),
            (x + 0.05 * size, y - 0.8 * size),
        ),
        polygon(
            PINK,
            (x - 0.75 * size, y - 0.6 * size),
            (x - 0.7 * size, y - 1.2 * size),
            (x - 0.35 * size, y - 0.8 * size),
        ),
        polygon(
            PINK,
            (x + 0.75 * size, y - 0.6 * size),
            (x + 0.7 * size, y - 1.2 * size),
            (x + 0.35 * size, y - 0.8 * size),
        ),
        disc(BODY, x, y, size, 0.88 * size),
        disc(LIGHT, x - 0.42 * size, y - 0.1 * size, 0.2 * size),
        disc(LIGHT, x + 0.42 * size, y - 0.1 * size, 0.2 * size),
        disc(DARK, x - 0.42 * size, y - 0.1 * size, 0.1 * size),
        disc(DARK, x + 0.42 * size, y - 0.1 * size, 0.1 * size),
        polygon(
            PINK,
            (x - 0.14 * size, y + 0.22 * size),
            (x + 0.14 * size, y + 0.22 * size),
            (x, y + 0.42 * size),
        ),
        stroke(DARK, 0.035, (x - 1.3 * size, y + 0.2 * size), (x - 0.3 * size, y + 0.4 * size)),
        stroke(DARK, 0.035, (x + 1.3 * size, y + 0.2 * size), (x + 0.3 * size, y + 0.4 * size)),
    ]


def dog(rng: np.random.Generator) -> list[Part]:
    """Draw a long snout, drooping dark ear, tongue and raised tail, standing or sitting."""
    wag = rng.uniform(-0.2, 0.15)
    if rng.random() < 0.65:
        body = [
            stroke(BODY, 0.15, (-0.7, 0.05), (-1.0 + wag, -0.5)),
            *_legs(rng, SHADE, (-0.6, -0.38, 0.18, 0.4), 0.3, 0.95, 0.18),
            disc(BODY, -0.12, 0.18, 0.68, 0.29),
            polygon(BODY, (0.15, 0.3), (0.2, -0.5), (0.6, -0.4), (0.55, 0.2)),
        ]
        x, y = 0.42, -0.5
    else:
        body = [
            stroke(BODY, 0.15, (-0.45, 0.8), (-0.95, 0.5 + wag)),
            polygon(BODY, (-0.6, 0.92), (-0.45, 0.2), (0.0, -0.5), (0.4, -0.3), (0.42, 0.92)),
            stroke(SHADE, 0.16, (0.26, 0.2), (0.3, 0.92)),
            disc(SHADE, -0.25, 0.75, 0.32, 0.2),
        ]
        x, y = 0.15, -0.55
    return [
        *body,
        disc(BODY, x, y, 0.32, 0.28),
        polygon(BODY, (x, y - 0.1), (x + 0.6, y), (x + 0.62, y + 0.22), (x, y + 0.27)),
        polygon(PINK, (x + 0.32, y + 0.24), (x + 0.5, y + 0.24), (x + 0.44, y + 0.46)),
        disc(DARK, x + 0.6, y + 0.05, 0.1),
        disc(LIGHT, x + 0.14, y - 0.08, 0.09),
        disc(DARK, x + 0.16, y - 0.08, 0.05),
        polygon(
            SHADE,
            (x - 0.22, y - 0.26),
            (x + 0.02, y - 0.2),
            (x - 0.08, y + 0.42),
            (x - 0.34, y + 0.4),
        ),
        stroke(WARM, 0.09, (x - 0.24, y + 0.36), (x + 0.16, y + 0.32)),
    ]


def horse(rng: np.random.Generator) -> list[Part]:
    """Draw tall legs, an arched neck with a dark mane, a long head and a hanging tail."""
    nod = rng.uniform(-0.1, 0.12)
    return [
        stroke(HAIR, 0.17, (-0.62, -0.05), (-0.9, 0.1), (-0.92, 0.6)),
        *_legs(rng, BODY, (-0.52, -0.34, 0.22, 0.4), 0.2, 0.82, 0.14),
        *_legs(rng, DARK, (-0.52, 0.4), 0.84, 0.98, 0.14),
        disc(BODY, -0.1, 0.08, 0.62, 0.3),
        polygon(BODY, (0.05, 0.0), (0.32, -0.85), (0.62, -0.75), (0.52, 0.2)),
        polygon(
            BODY, (0.34, -0.9), (0.62, -0.92), (1.02, -0.42 + nod), (0.9, -0.24 + nod), (0.5, -0.5)
        ),
        polygon(BODY, (0.36, -0.85), (0.38, -1.12), (0.54, -0.9)),
        stroke(HAIR, 0.19, (0.36, -0.98), (0.14, -0.55), (0.04, -0.12)),
        disc(DARK, 0.62, -0.7, 0.06),
        disc(SHADE, 0.93, -0.36 + nod, 0.1),
    ]


def cow(rng: np.random.Generator) -> list[Part]:
    """Draw a heavy boxy body, white horns, a pink muzzle and udder, and a thin tail."""
    nod = rng.uniform(-0.08, 0.12)
    x, y = 0.68, -0.28 + nod
    return [
        stroke(SHADE, 0.07, (-0.8, -0.3), (-1.0, 0.1), (-0.98, 0.4)),
        disc(DARK, -0.98, 0.45, 0.08, 0.13),
        *_legs(rng, BODY, (-0.62, -0.42, 0.2, 0.4), 0.2, 0.88, 0.19),
        disc(PINK, -0.28, 0.38, 0.17, 0.15),
        polygon(
            BODY,
            (-0.85, -0.38),
            (-0.75, -0.45),
            (0.55, -0.45),
            (0.6, 0.3),
            (-0.75, 0.36),
            (-0.85, 0.2),
        ),
        disc(LIGHT, -0.4, -0.15, 0.24, 0.17),
        disc(LIGHT, 0.18, 0.08, 0.18, 0.14),
        stroke(LIGHT, 0.11, (x - 0.16, y - 0.22), (x - 0.34, y - 0.42), (x - 0.28, y - 0.62)),
        stroke(LIGHT, 0.11, (x + 0.16, y - 0.22), (x + 0.34, y - 0.42), (x + 0.28, y - 0.62)),
        polygon(SHADE, (x - 0.24, y - 0.18), (x - 0.5, y - 0.14), (x - 0.3, y + 0.04)),
        polygon(
            BODY,
            (x - 0.26, y - 0.3),
            (x + 0.26, y - 0.3),
            (x + 0.22, y + 0.36),
            (x - 0.22, y + 0.36),
        ),
        disc(PINK, x, y + 0.36, 0.27, 0.18),
        disc(DARK, x - 0.12, y - 0.06, 0.06),
        disc(DARK, x + 0.12, y - 0.06, 0.06),
        disc(DARK, x - 0.1, y + 0.36, 0.05),
        disc(DARK, x + 0.1, y + 0.36, 0.05),
    ]


def sheep(rng: np.random.Generator) -> list[Part]:
    """Draw a cloud of wool on short dark legs, with a dark face."""
    puffs = [
        disc(BODY, -0.12 + 0.62 * np.cos(angle), 0.0 + 0.36 * np.sin(angle), 0.3)
        for angle in np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.uniform(0, 0.7)
    ]
    y = rng.uniform(-0.35, -0.1)
    return [
        *_legs(rng, DARK, (-0.52, -0.3, 0.08, 0.3), 0.35, 0.88, 0.15),
        *puffs,
        disc(BODY, -0.12, 0.0, 0.62, 0.42),
        *[disc(SHADE, -0.5 + 0.36 * i, 0.12 * (-1) ** i, 0.07) for i in range(3)],
        disc(DARK, 0.52, y - 0.16, 0.22, 0.08, 0.5),
        disc(DARK, 0.78, y + 0.12, 0.22, 0.32, -0.35),
        disc(BODY, 0.66, y - 0.16, 0.22, 0.15),
        disc(LIGHT, 0.8, y + 0.03, 0.07),
    ]
