"""Kinds of things in the toy world: Pascal VOC's twenty classes, and invented kinds.

Every kind is a combination of parts (see `grammar.py`) with its own proportions. Pascal's classes
are made of the same parts as the invented kinds. A model that has learned the parts can therefore
segment a kind whose name it has never heard.
"""

from typing import NamedTuple

import numpy as np

from datamodules.toy.scenes.grammar import SLOTS, Parts, Proportions


class Kind(NamedTuple):
    """Look of a kind.

    Attributes:
        parts: Value of each slot of the grammar.
        proportions: Sizes of the parts, which vary a little between instances.
    """

    parts: Parts
    proportions: Proportions


_WIDE, _HUGE = Proportions(width=1.45), Proportions(width=1.7, base=0.75)
_SHORT = Proportions(base=0.8)
_PASCAL: dict[str, dict[str, Kind]] = {
    "aeroplane": {"aeroplane": Kind(Parts("long body", tail="fin", side="wings"), Proportions(1.2))},
    "bicycle": {"bicycle": Kind(Parts("frame body", "wheels", top="handlebar"), Proportions(base=1.3))},
    "bird": {"bird": Kind(Parts("round body", "two legs", "beak", tail="fan tail", side="wings"), Proportions(rest=0.9))},
    "boat": {"boat": Kind(Parts("bowl body", top="sail"), Proportions(1.2))},
    "bottle": {"bottle": Kind(Parts("tall body", head="bottleneck"), Proportions())},
    "bus": {"bus": Kind(Parts("square body", "wheels", side="windows"), _HUGE)},
    "car": {"car": Kind(Parts("dome body", "wheels", side="windows"), Proportions(1.2))},
    "cat": {"cat": Kind(Parts("round body", "four legs", "round head", "ears", "curly tail"), Proportions(head=1.15))},
    "chair": {"chair": Kind(Parts("seat body", "four legs"), Proportions(0.9, base=1.1))},
    "cow": {"cow": Kind(Parts("square body", "four legs", "square head", "ears", "stick tail", "patches"), Proportions(1.2, 0.95))},
    "diningtable": {"diningtable": Kind(Parts("slab body", "stand"), Proportions(base=1.5))},
    "dog": {"dog": Kind(Parts("long body", "four legs", "snout", "ears", "stick tail"), Proportions(0.85))},
    "horse": {"horse": Kind(Parts("long body", "four legs", "long neck", "ears", "fan tail", "saddle"), Proportions(0.9, 1.1, 1.2))},
    "motorbike": {"motorbike": Kind(Parts("bowl body", "wheels", top="handlebar", tail="forked tail", side="saddle"), Proportions(0.95))},
    "person": {
        "man": Kind(Parts("tall body", "two legs", "round head", "ears", side="arms"), Proportions(rest=0.8)),
        "woman": Kind(Parts("triangle body", "two legs", "round head", "ears", side="arms"), Proportions(0.85, rest=0.8)),
    },
    "pottedplant": {"pottedplant": Kind(Parts("bowl body", top="leaves"), Proportions(0.65, 1.1, rest=1.3))},
    "sheep": {"sheep": Kind(Parts("cloud body", "four legs", "snout", "ears", "ball tail"), _SHORT)},
    "sofa": {"sofa": Kind(Parts("seat body", "stub feet", side="cushion"), Proportions(1.6, 0.85))},
    "train": {"train": Kind(Parts("square body", "tracks", top="chimney", side="windows"), _WIDE)},
    "tvmonitor": {"tvmonitor": Kind(Parts("square body", "stand", top="antenna", side="screen"), Proportions(1.3, 1.2, 0.7))},
}  # fmt: skip

INVENTED = 140
"""number of invented kinds"""
_NAMES_EVERY = 5
_DIFFERENT = 2  # slots in which any two kinds differ at least
_EMPTY = 0.3  # probability that a slot other than the body is empty
_SEED = 0x70F


def random_parts(rng: np.random.Generator) -> Parts:
    """Return a random combination of parts with at least two besides the body."""
    while True:
        parts = Parts(*(
            "" if slot != "body" and rng.random() < _EMPTY else str(rng.choice(list(values)))
            for slot, values in SLOTS.items()
        ))  # fmt: skip
        if sum(map(bool, parts)) >= 3:
            return parts


def differences(first: Parts, second: Parts) -> int:
    """Return the number of slots in which two things differ."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def _invent() -> dict[str, Kind]:
    """Return the invented kinds: name -> look."""
    rng = np.random.default_rng(_SEED)
    known = [kind.parts for variants in _PASCAL.values() for kind in variants.values()]
    invented: dict[str, Kind] = {}
    while len(invented) < INVENTED:
        parts = random_parts(rng)
        if min(differences(parts, other) for other in known) < _DIFFERENT:
            continue
        letters = (rng.choice(list(choice)) for choice in ("bdfgklmnprstvz", "aeiou") * 2)
        name = "".join((*letters, rng.choice(list("bfkmnpxz"))))
        if name in invented:
            continue
        known.append(parts)
        invented[name] = Kind(parts, Proportions(*rng.uniform(0.85, 1.2, 5)))
    return invented


INVENTED_KINDS: dict[str, Kind] = _invent()
VARIANTS: dict[str, dict[str, Kind]] = _PASCAL | {
    name: {name: kind} for name, kind in INVENTED_KINDS.items()
}
"""Kind -> variant -> its look. Only "person" has two variants: man and woman."""
PASCAL_KINDS: tuple[str, ...] = tuple(_PASCAL)
KINDS: tuple[str, ...] = tuple(VARIANTS)
UNNAMED_KINDS: tuple[str, ...] = tuple(INVENTED_KINDS)[::_NAMES_EVERY]
"""a fifth of the invented kinds, which no training phrase of a decoder names"""
