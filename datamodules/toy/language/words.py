"""Words of the toy world: names, affordances, attributes and parts."""

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

_LEGGED = frozenset(("bird", "cat", "chair", "cow", "dog", "horse", "person", "sheep", "sofa"))

PROPERTIES: dict[str, frozenset[str]] = {
    "sit on": frozenset(("chair", "sofa")),
    "drink from": frozenset(("bottle",)),
    "ride on": frozenset(("horse", "motorbike")),
    "can fly": frozenset(("aeroplane", "bird")),
    "can be driven": frozenset(("bus", "car")),
    "can swim": frozenset(("boat",)),
    "has wheels": frozenset(("bicycle", "bus", "car", "motorbike")),
    "has legs": _LEGGED,
    "has ears": frozenset(("cat", "cow", "dog", "horse", "person", "sheep")),
}
"""Generalised prompt (affordance, attribute or part) -> kinds that it applies to.

The mapping is the paper's, with LVIS categories reduced to the twenty kinds. "has ears" is missing
from the paper and comes from the authors' code.
"""

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
