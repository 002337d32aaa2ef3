"""Leaving out of training what a benchmark holds out, so that a model never hears of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.class_words import AuthorsRule, WholeWords, class_words
from datamodules.datasets.pascal_classes import fold_classes, unseen_classes
from datamodules.datasets.prompted import PhraseList, PhraseSource

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
            table) and keeps "potted plant", "men" and "kitten" (trap T23).

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


class WithoutPhrases:
    """The tasks of a source whose phrases pass a test.

    The photos stay, and with them the pixels of what is no longer named; negative phrases are
    drawn from what is left.

    Args:
        source: of tasks, each with a phrase.
        left_out: true for phrases to leave out.

    Raises:
        ValueError: if no task is left.
    """

    def __init__(self, source: PhraseSource, left_out: Callable[[str], bool]) -> None:
        """Find what stays."""
        self.source = source
        phrases = source.phrases
        stays = np.array([not left_out(phrases[row]) for row in range(len(phrases))])
        owner = np.array([source.phrase(task) for task in range(len(source))])
        self._kept_phrases, self._kept_tasks = np.flatnonzero(stays), np.flatnonzero(stays[owner])
        if not len(self._kept_tasks):
            raise ValueError(f"the exclusion leaves none of {len(source)} tasks")
        self._phrase_row, self._task_row = _rows_left(stays), _rows_left(stays[owner])

    def __len__(self) -> int:
        """Number of tasks left."""
        return len(self._kept_tasks)

    @property
    def phrases(self) -> PhraseList:
        """The different phrases left."""
        return _Kept(self.source.phrases, self._kept_phrases)

    def name(self, task: int) -> str:
        """The source's id."""
        return self.source.name(int(self._kept_tasks[task]))

    def phrase(self, task: int) -> int:
        """Position of the task's phrase in `phrases`."""
        return int(self._phrase_row[self.source.phrase(int(self._kept_tasks[task]))])

    def image(self, task: int) -> RGB:
        """The photo, (H, W, 3) uint8; raises as the source does."""
        return self.source.image(int(self._kept_tasks[task]))

    def mask(self, task: int) -> Mask:
        """The target, (H, W) bool."""
        return self.source.mask(int(self._kept_tasks[task]))

    def tasks_of_phrase(self, phrase: int) -> npt.NDArray[np.int64]:
        """Tasks with exactly this phrase."""
        return self._task_row[self.source.tasks_of_phrase(int(self._kept_phrases[phrase]))]

    def tasks_of_image(self, task: int) -> npt.NDArray[np.int64]:
        """Tasks left about the task's photo, itself among them."""
        of_image = self.source.tasks_of_image(int(self._kept_tasks[task]))
        rows = self._task_row[of_image]
        return rows[rows >= 0]

    def phrases_of_image(self, task: int) -> npt.NDArray[np.int64]:
        """Positions of the phrases left that are annotated on the task's photo."""
        of_image = self.source.phrases_of_image(int(self._kept_tasks[task]))
        rows = self._phrase_row[of_image]
        return rows[rows >= 0]


def _rows_left(stays: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Position of each among those that stay; -1 for the others."""
    return np.where(stays, np.cumsum(stays) - 1, -1)


class _Kept:
    """Some of a list's phrases."""

    def __init__(self, phrases: PhraseList, rows: npt.NDArray[np.int64]) -> None:
        self._phrases, self._rows = phrases, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str:
        return self._phrases[int(self._rows[index])]


def lone_phrases(source: PhraseSource) -> set[str]:
    """Phrases that one task alone has, so that nothing can support it."""
    phrases = source.phrases
    rows = range(len(phrases))
    return {phrases[row] for row in rows if len(source.tasks_of_phrase(row)) < 2}
