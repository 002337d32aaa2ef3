"""Leaving out of training what a benchmark holds out, so that a model never hears of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from datamodules.datasets.class_words import AuthorsRule, WholeWords, class_words
from datamodules.datasets.pascal_5i import fold_classes, unseen_classes

HeldOut = Literal[
    "fold_0",
    "fold_1",
    "fold_2",
    "fold_3",
    "unseen_2",
    "unseen_4",
    "unseen_6",
    "unseen_8",
    "unseen_10",
    "affordances",
]
Rule = Literal["mended", "paper"]

AFFORDANCE_WORDS: tuple[str, ...] = tuple(
    "drink drinks drinking sit sits sitting ride rides riding fly flies flying drive drives "
    "driving driven swim swims swimming wheels wheel legs leg ear ears".split()
)
"""The authors' list for generalised prompts (Table 8)."""
_MORE_FORMS = "drank drunk sat rode ridden flew flown drove swam swum wheeled legged eared".split()


@dataclass(frozen=True)
class Exclusion:
    """Which phrases training leaves out.

    Args:
        held_out: what they name: the classes of a fold of Pascal-5i, the unseen classes of
            generalised zero-shot segmentation, or the words of the generalised prompts; None
            leaves nothing out.
        rule: "mended" looks for whole words in either case, in singular and plural, that mean the
            class in a photo (see `class_words_build`). "paper" is the authors' filter to the
            letter, for numbers like theirs; it removes every "gray" and "counter" (a horse, a
            table) and keeps "potted plant", "men" and "kitten".

    Raises:
        ValueError: for a name that is neither.

    Reference: the models of the paper's Tables 4, 5, 7 and 8.
    """

    held_out: HeldOut | None = None
    rule: Rule = "mended"

    def __post_init__(self) -> None:
        """Refuse unknown names, for callers without a parser."""
        if self.held_out not in (None, *get_args(HeldOut)):
            known = ", ".join(get_args(HeldOut))
            raise ValueError(f"exclusion.held_out {self.held_out}: there are {known}")
        if self.rule not in get_args(Rule):
            raise ValueError(f"exclusion.rule {self.rule}: there are {', '.join(get_args(Rule))}")

    @property
    def names(self) -> list[str]:
        """What is held out: VOC's names of the classes, or the words of the affordances."""
        if self.held_out is None:
            return []
        if self.held_out == "affordances":
            return list(AFFORDANCE_WORDS)
        kind, number = self.held_out.split("_")
        return list((fold_classes if kind == "fold" else unseen_classes)(int(number)))

    def left_out(self) -> Callable[[str], bool]:
        """Build the test that is true for phrases to leave out."""
        if self.held_out == "affordances":
            if self.rule == "paper":
                return AuthorsRule((), AFFORDANCE_WORDS)
            return WholeWords((*AFFORDANCE_WORDS, *_MORE_FORMS))
        lists = [class_words()[name] for name in self.names]

        def joined(key: str) -> list[str]:
            return [word for words in lists for word in words[key]]

        if self.rule == "paper":
            return AuthorsRule(joined("lemmas"), joined("tokens"))
        return WholeWords(joined("names"), joined("spared"))
