"""Text prompts: the prefixes that turn a phrase into what CLIP reads.

Reference: paper section 4 ("phrases are augmented by a fixed set of prefixes"); the lists and
their names are those of the authors' code (`plain`, `fixed`, `shuffle`, `shuffle+`).
"""

from typing import Literal

import numpy as np

PrefixName = Literal["plain", "fixed", "shuffle", "shuffle_plus"]

_SHUFFLE = (
    "a photo of a {}.",
    "a photograph of a {}.",
    "an image of a {}.",
    "{}.",
)

PREFIXES: dict[PrefixName, tuple[str, ...]] = {
    "plain": ("{}",),
    "fixed": ("a photo of a {}.",),
    "shuffle": _SHUFFLE,
    "shuffle_plus": (
        *_SHUFFLE,
        "a cropped photo of a {}.",
        "a good photo of a {}.",
        "a photo of one {}.",
        "a bad photo of a {}.",
        "a photo of the {}.",
    ),
}


def prefix_list(name: PrefixName) -> tuple[str, ...]:
    """The list of that name in `PREFIXES`, each with {} for the phrase.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in PREFIXES:
        raise ValueError(f"prefixes is one of {', '.join(PREFIXES)}, not {name!r}")
    return PREFIXES[name]


def draw_text_prompt(phrase: str, prefixes: PrefixName, rng: np.random.Generator) -> str:
    """Put a phrase inside a prefix drawn uniformly from the named list.

    Args:
        phrase: the words, as annotated.
        prefixes: name of the list in `PREFIXES`; "plain" leaves the phrase as it is.
        rng: source of the draw.

    Raises:
        ValueError: for unknown prefixes.
    """
    templates = prefix_list(prefixes)
    return templates[rng.integers(len(templates))].format(phrase)
