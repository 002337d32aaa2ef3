"""What a dataset of annotated phrases offers, and a part of one."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask


class PhraseSource(Protocol):
    """What a dataset must offer to be prompted."""

    @property
    def phrases(self) -> "PhraseList":
        """The different phrases."""

    def __len__(self) -> int:
        """Number of tasks: one phrase about one photo each."""

    def name(self, task: int) -> str:
        """Name of a task, unique in the split."""

    def phrase(self, task: int) -> int:
        """Position of the task's phrase in `phrases`."""

    def image(self, task: int) -> RGB:
        """The photo."""

    def mask(self, task: int) -> Mask:
        """The target."""

    def tasks_of_phrase(self, phrase: int) -> npt.NDArray[np.int64]:
        """Tasks with exactly this phrase."""

    def tasks_of_image(self, task: int) -> npt.NDArray[np.int64]:
        """Tasks about the task's photo, itself among them."""

    def possible_phrases(self, task: int) -> npt.NDArray[np.int64]:
        """Positions of all phrases that are not known to be absent from the task's photo.

        Where everything in a photo is annotated, they are the annotated ones.
        """


class PhraseList(Protocol):
    """A sequence of strings, read-only."""

    def __len__(self) -> int:
        """How many."""

    def __getitem__(self, index: int) -> str:
        """One of them."""


class WithoutPhrases:
    """The tasks of a source whose phrases pass a test.

    The photos stay, and with them the pixels of what is no longer named; negative phrases are
    drawn from what is left.

    Args:
        source: of tasks, each with a phrase.
        left_out: true for phrases to leave out.
    """

    def __init__(self, source: PhraseSource, left_out: Callable[[str], bool]) -> None:
        """Find what stays."""
        self.source = source
        phrases = source.phrases
        stays = np.array([not left_out(phrases[row]) for row in range(len(phrases))], np.bool_)
        owner = np.array([source.phrase(task) for task in range(len(source))], np.int64)
        self._kept_phrases, self._kept_tasks = np.flatnonzero(stays), np.flatnonzero(stays[owner])
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

    def possible_phrases(self, task: int) -> npt.NDArray[np.int64]:
        """Positions of the phrases left that are not known to be absent from the task's photo."""
        of_image = self.source.possible_phrases(int(self._kept_tasks[task]))
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
