"""Text prompts: prefixes that turn a phrase into the input of CLIP's text encoder.

The lists and their names are the authors' (`plain`, `fixed`, `shuffle`, `shuffle+`).

Reference: paper, section 4.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
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
    """Return the prefixes with the given name; {} is the placeholder for the phrase.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in PREFIXES:
        raise ValueError(f"prefixes must be one of {', '.join(PREFIXES)}, not {name!r}")
    return PREFIXES[name]


def normalise_phrase(phrase: str) -> str:
    """Convert a phrase to lower case, as CLIP's tokenizer does, and collapse white space."""
    return " ".join(phrase.split()).lower()


def draw_text_prompt(phrase: str, prefixes: PrefixName, rng: "np.random.Generator") -> str:
    """Insert a phrase into a prefix sampled uniformly from a list.

    Args:
        phrase: the phrase as annotated.
        prefixes: name of a list in `PREFIXES`; "plain" does not change the phrase.
        rng: random generator.

    Raises:
        ValueError: for an unknown name.
    """
    templates = prefix_list(prefixes)
    return templates[rng.integers(len(templates))].format(phrase)
