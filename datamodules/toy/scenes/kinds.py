"""Kinds of things in the toy world: Pascal VOC's twenty classes, and invented kinds.

Every kind is a combination of parts (see `grammar.py`) with its own proportions. Pascal's classes
have the same parts as the invented kinds, so a model that has learned the parts can segment a kind
that was never named in its training.
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


_LOOKS: dict[str, Kind] = {
    "aeroplane": Kind(Parts("long body", tail="fin", side="wings"), Proportions(1.2)),
    "bicycle": Kind(Parts("frame body", "wheels", top="handlebar"), Proportions(base=1.3)),
    "bird": Kind(
        Parts("round body", "two legs", "beak", tail="fan tail", side="wings"),
        Proportions(rest=0.9),
    ),
    "boat": Kind(Parts("bowl body", top="sail", side="windows"), Proportions(1.2)),
    "bottle": Kind(Parts("tall body", head="bottleneck"), Proportions()),
    "bus": Kind(Parts("square body", "wheels", side="windows"), Proportions(1.7, base=0.75)),
    "car": Kind(Parts("dome body", "wheels", tail="fin", side="windows"), Proportions(1.2)),
    "cat": Kind(
        Parts("round body", "four legs", "round head", "ears", "curly tail"), Proportions(head=1.15)
    ),
    "chair": Kind(Parts("seat body", "four legs"), Proportions(0.9, base=1.1)),
    "cow": Kind(
        Parts("square body", "four legs", "square head", "ears", "stick tail", "patches"),
        Proportions(1.2, 0.95),
    ),
    "diningtable": Kind(Parts("slab body", "stand"), Proportions(base=1.5)),
    "dog": Kind(Parts("long body", "four legs", "snout", "ears", "stick tail"), Proportions(0.85)),
    "horse": Kind(
        Parts("long body", "four legs", "long neck", "ears", "fan tail", "saddle"),
        Proportions(0.9, 1.1, 1.2),
    ),
    "motorbike": Kind(
        Parts("bowl body", "wheels", top="handlebar", tail="forked tail", side="saddle"),
        Proportions(0.95),
    ),
    "man": Kind(
        Parts("tall body", "two legs", "round head", "ears", side="arms"), Proportions(rest=0.8)
    ),
    "woman": Kind(
        Parts("triangle body", "two legs", "round head", "ears", side="arms"),
        Proportions(0.85, rest=0.8),
    ),
    "pottedplant": Kind(Parts("bowl body", top="leaves"), Proportions(0.65, 1.1, rest=1.3)),
    "sheep": Kind(
        Parts("cloud body", "four legs", "snout", "ears", "ball tail"), Proportions(base=0.8)
    ),
    "sofa": Kind(Parts("seat body", "stub feet", side="cushion"), Proportions(1.6, 0.85)),
    "train": Kind(Parts("square body", "tracks", top="chimney", side="windows"), Proportions(1.45)),
    "tvmonitor": Kind(
        Parts("square body", "stand", top="antenna", side="screen"), Proportions(1.3, 1.2, 0.7)
    ),
}
"""Looks of Pascal's classes, in Pascal's order; a person is a man or a woman."""

_INVENTED = 140  # number of invented kinds
_UNNAMED_EVERY = 5  # every fifth invented kind is unnamed
_DIFFERENT = 2  # minimum number of slots in which an invented kind differs from every other kind
_EMPTY = 0.3  # probability that a slot other than the body is empty
_SEED = 26  # chosen so that unnamed kinds cover every part, and three invented kinds can be driven


def _random_parts(rng: np.random.Generator) -> Parts:
    """Return a random combination of parts, with at least two besides the body."""
    while True:
        parts = Parts(*(
            "" if slot != "body" and rng.random() < _EMPTY else str(rng.choice(list(values)))
            for slot, values in SLOTS.items()
        ))  # fmt: skip
        if sum(map(bool, parts)) >= 3:
            return parts


def _differences(first: Parts, second: Parts) -> int:
    """Return the number of slots in which two things differ."""
    return sum(a != b for a, b in zip(first, second, strict=True))


def _invent() -> dict[str, Kind]:
    """Return name -> look of the invented kinds. Names alternate consonants and vowels."""
    rng = np.random.default_rng(_SEED)
    known = [look.parts for look in _LOOKS.values()]
    invented: dict[str, Kind] = {}
    while len(invented) < _INVENTED:
        parts = _random_parts(rng)
        if min(_differences(parts, other) for other in known) < _DIFFERENT:
            continue
        letters = (rng.choice(list(choice)) for choice in ("bdfgklmnprstvz", "aeiou") * 2)
        name = "".join((*letters, rng.choice(list("bfkmnpxz"))))
        if name in invented:
            continue
        known.append(parts)
        invented[name] = Kind(parts, Proportions(*rng.uniform(0.85, 1.2, 5)))
    return invented


INVENTED_KINDS: dict[str, Kind] = _invent()
VARIANTS: dict[str, dict[str, Kind]] = {}
"""Kind -> variant -> its look. Only "person" has two variants: man and woman."""
for _variant, _look in (_LOOKS | INVENTED_KINDS).items():
    _kind = "person" if _variant in ("man", "woman") else _variant
    VARIANTS.setdefault(_kind, {})[_variant] = _look
KINDS: tuple[str, ...] = tuple(VARIANTS)
PASCAL_KINDS: tuple[str, ...] = tuple(kind for kind in KINDS if kind not in INVENTED_KINDS)
UNNAMED_KINDS: tuple[str, ...] = tuple(INVENTED_KINDS)[::_UNNAMED_EVERY]
"""A fifth of the invented kinds, which no phrase in PhraseCut's training split names."""
