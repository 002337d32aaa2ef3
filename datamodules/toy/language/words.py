"""Words of the toy world: names, affordances, attributes and parts."""

from collections.abc import Callable

from datamodules.toy.scenes.grammar import SLOTS, Parts
from datamodules.toy.scenes.kinds import INVENTED_KINDS
from datamodules.toy.scenes.paint import COLOURS, TEXTURES

NAMES: dict[str, tuple[str, ...]] = {
    "aeroplane": ("aeroplane", "airplane", "plane"),
    "bicycle": ("bicycle", "bike"),
    "bird": ("bird",),
    "boat": ("boat", "ship"),
    "bottle": ("bottle",),
    "bus": ("bus",),
    "car": ("car",),
    "cat": ("cat",),
    "chair": ("chair",),
    "cow": ("cow",),
    "diningtable": ("table", "dining table", "diningtable"),
    "dog": ("dog",),
    "horse": ("horse",),
    "motorbike": ("motorbike", "motorcycle"),
    "man": ("man", "person"),
    "woman": ("woman", "person"),
    "pottedplant": ("plant", "potted plant", "pottedplant"),
    "sheep": ("sheep",),
    "sofa": ("sofa", "couch"),
    "train": ("train",),
    "tvmonitor": ("tv", "television", "monitor", "tvmonitor"),
    **{name: (name,) for name in INVENTED_KINDS},
}
"""Kind, or "man" or "woman" -> names, the most common one first. Both can be called "person"."""

STUFF_NAMES: dict[str, tuple[str, ...]] = {
    "sky": ("sky",),
    "grass": ("grass", "lawn"),
    "sea": ("water", "sea"),
    "road": ("road", "street"),
    "wall": ("wall",),
}

TEXTURE_WORDS: tuple[str, ...] = TEXTURES[1:]
SIZE_WORDS: dict[str, tuple[str, ...]] = {"small": ("small", "little"), "large": ("large", "big")}
COLOUR_WORDS: tuple[str, ...] = tuple(COLOURS)

PART_WORDS: tuple[str, ...] = tuple(value for values in SLOTS.values() for value in values)

_RULES: dict[str, Callable[[Parts], bool]] = {
    "sit on": lambda parts: parts.body == "seat body",
    "drink from": lambda parts: parts.head == "bottleneck",
    "ride on": lambda parts: parts.side == "saddle",
    "can fly": lambda parts: parts.side == "wings",
    "can be driven": lambda parts: parts.base == "wheels" and parts.side == "windows",
    "can swim": lambda parts: parts.top == "sail",
    "has wheels": lambda parts: parts.base == "wheels",
    "has legs": lambda parts: parts.base in ("two legs", "four legs", "stub feet"),
    "has ears": lambda parts: parts.top == "ears",
}


def properties_of(parts: Parts) -> list[str]:
    """Return the generalised prompts (affordances, attributes and parts) that apply to a thing.

    For Pascal's classes, the result agrees with the paper's lists of LVIS categories, limited to
    these twenty classes. "has ears" is not in the paper; it comes from the authors' code.
    """
    return [text for text, applies in _RULES.items() if applies(parts)]


PROPERTY_SENTENCES: dict[str, tuple[str, ...]] = {
    "sit on": (
        "sit on",
        "something to sit on",
        "you can sit on it",
        "something to sit on that is {}",
    ),
    "drink from": (
        "drink from",
        "something to drink from",
        "you can drink from it",
        "a {} thing to drink from",
    ),
    "ride on": ("ride on", "something to ride on", "you can ride on it", "something {} to ride on"),
    "can fly": ("can fly", "it can fly", "something that can fly", "a {} thing that can fly"),
    "can be driven": (
        "can be driven",
        "it can be driven",
        "something that can be driven",
        "a {} thing that can be driven",
    ),
    "can swim": ("can swim", "it can swim", "something that can swim", "a {} thing that can swim"),
    "has wheels": (
        "has wheels",
        "it has wheels",
        "something with wheels",
        "a {} thing with wheels",
    ),
    "has legs": ("has legs", "it has legs", "something with legs", "a {} thing with legs"),
    "has ears": ("has ears", "it has ears", "something with ears", "a {} thing with ears"),
}
"""Generalised prompt -> its wordings in pre-training; {} is replaced by a colour."""


def kind_name(kind: str) -> str:
    """Return the most common name of a kind; "person" covers both men and women."""
    return "person" if kind == "person" else NAMES[kind][0]
