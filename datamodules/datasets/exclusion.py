"""Leaving out what names a class, so that a model never hears of it."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.prompted import PhraseList, PhraseSource


class WithoutWords:
    """The tasks of a source whose phrases contain none of some words.

    The photos stay, and with them the pixels of what is no longer named; negative phrases are
    drawn from what is left.

    Args:
        source: of tasks, each with a phrase.
        words: one or more of them, such as "bike" or "dining table"; only whole words count, in
            either case.

    Raises:
        ValueError: if an entry is blank, or no task is left.

    Reference: the paper's models for held-out classes (Tables 4 and 5) are trained so.
    """

    def __init__(self, source: PhraseSource, words: Sequence[str]) -> None:
        """Find what stays."""
        if not all(word.strip() for word in words):
            raise ValueError("exclude_words: an entry is blank and would mean every phrase")
        self.source = source
        alternatives = "|".join(r"\s+".join(map(re.escape, word.split())) for word in words)
        naming = re.compile(rf"\b(?:{alternatives})\b", re.IGNORECASE)
        phrases = source.phrases
        named = [bool(words and naming.search(phrases[row])) for row in range(len(phrases))]
        stays = ~np.array(named)
        owner = np.array([source.phrase(task) for task in range(len(source))])
        self._kept_phrases, self._kept_tasks = np.flatnonzero(stays), np.flatnonzero(stays[owner])
        if not len(self._kept_tasks):
            raise ValueError(f"exclude_words leaves none of {len(source)} tasks")
        self._phrase_row = np.cumsum(stays) - 1
        self._task_row = np.cumsum(stays[owner]) - 1

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

    def phrases_of_image(self, task: int) -> npt.NDArray[np.int64]:
        """Positions of the phrases left that are annotated on the task's photo."""
        of_image = self.source.phrases_of_image(int(self._kept_tasks[task]))
        return self._phrase_row[of_image[np.isin(of_image, self._kept_phrases)]]


class _Kept:
    """Some of a list's phrases."""

    def __init__(self, phrases: PhraseList, rows: npt.NDArray[np.int64]) -> None:
        self._phrases, self._rows = phrases, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str:
        return self._phrases[int(self._rows[index])]
