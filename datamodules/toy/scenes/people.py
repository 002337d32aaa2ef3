"""Clip art of people, in two variants."""

import numpy as np

from datamodules.toy.scenes.parts import (
    BODY,
    DARK,
    HAIR,
    SHADE,
    SKIN,
    Part,
    box,
    disc,
    polygon,
    stroke,
)


def person(rng: np.random.Generator, woman: bool) -> list[Part]:
    """Draw a standing figure seen from the front, in coloured clothes.

    A woman has a dress and long hair.
    """
    left, right = rng.choice(np.array((0.35, 0.1, -0.75)), 2, p=(0.6, 0.2, 0.2))
    stride = rng.uniform(0.1, 0.26)
    arms = [
        stroke(SKIN, 0.15, (-0.25, -0.3), (-0.56, left)),
        stroke(SKIN, 0.15, (0.25, -0.3), (0.56, right)),
        stroke(BODY, 0.19, (-0.22, -0.32), (-0.4, -0.32 + 0.5 * (left + 0.3))),
        stroke(BODY, 0.19, (0.22, -0.32), (0.4, -0.32 + 0.5 * (right + 0.3))),
    ]
    if woman:
        return [
            polygon(HAIR, (-0.28, -0.8), (0.28, -0.8), (0.36, -0.2), (-0.36, -0.2)),
            stroke(SKIN, 0.15, (-0.12, 0.4), (-stride, 0.92)),
            stroke(SKIN, 0.15, (0.12, 0.4), (stride, 0.92)),
            *arms,
            polygon(
                BODY,
                (-0.22, -0.42),
                (0.22, -0.42),
                (0.2, 0.0),
                (0.48, 0.55),
                (-0.48, 0.55),
                (-0.2, 0.0),
            ),
            disc(SKIN, 0.0, -0.72, 0.24, 0.27),
            polygon(
                HAIR,
                (-0.28, -0.68),
                (-0.24, -0.98),
                (0.0, -1.06),
                (0.24, -0.98),
                (0.28, -0.68),
                (0.0, -0.88),
            ),
            disc(DARK, -0.09, -0.7, 0.04),
            disc(DARK, 0.09, -0.7, 0.04),
        ]
    return [
        stroke(SHADE, 0.21, (-0.1, 0.15), (-stride, 0.88)),
        stroke(SHADE, 0.21, (0.1, 0.15), (stride, 0.88)),
        disc(DARK, -stride - 0.05, 0.95, 0.15, 0.07),
        disc(DARK, stride + 0.05, 0.95, 0.15, 0.07),
        *arms,
        box(BODY, -0.28, -0.43, 0.28, 0.24),
        disc(SKIN, 0.0, -0.72, 0.24, 0.27),
        polygon(
            HAIR,
            (-0.25, -0.74),
            (-0.24, -0.96),
            (0.0, -1.04),
            (0.24, -0.96),
            (0.25, -0.74),
            (0.0, -0.86),
        ),
        disc(DARK, -0.09, -0.7, 0.04),
        disc(DARK, 0.09, -0.7, 0.04),
    ]
