"""The twenty kinds of things in the toy world (Pascal VOC's classes), and their drawings."""

from collections.abc import Callable
from functools import partial

import numpy as np

from datamodules.toy.scenes import animals, household, people, vehicles
from datamodules.toy.scenes.parts import Part

Drawing = Callable[[np.random.Generator], list[Part]]

KINDS: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip

VARIANTS: dict[str, dict[str, Drawing]] = {
    "aeroplane": {"aeroplane": vehicles.aeroplane},
    "bicycle": {"bicycle": vehicles.bicycle},
    "bird": {"bird": animals.bird},
    "boat": {"boat": vehicles.boat},
    "bottle": {"bottle": household.bottle},
    "bus": {"bus": vehicles.bus},
    "car": {"car": vehicles.car},
    "cat": {"cat": animals.cat},
    "chair": {"chair": household.chair},
    "cow": {"cow": animals.cow},
    "diningtable": {"diningtable": household.diningtable},
    "dog": {"dog": animals.dog},
    "horse": {"horse": animals.horse},
    "motorbike": {"motorbike": vehicles.motorbike},
    "person": {
        "man": partial(people.person, woman=False),
        "woman": partial(people.person, woman=True),
    },
    "pottedplant": {"pottedplant": household.pottedplant},
    "sheep": {"sheep": animals.sheep},
    "sofa": {"sofa": household.sofa},
    "train": {"train": vehicles.train},
    "tvmonitor": {"tvmonitor": household.tvmonitor},
}
"""Kind -> variant -> function that draws it. Only "person" has two variants: man and woman."""
