"""Phrases about photos, a row a task, whichever dataset they are from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask

Rows = npt.NDArray[np.int64]


class Strings:
    """Many strings in one array of bytes, which forked workers share.

    Args:
        text: (total,) uint8, utf-8.
        offsets: (count + 1,) int64.
    """

    def __init__(self, text: npt.NDArray[np.uint8], offsets: Rows) -> None:
        """Keep the arrays, mapped or not."""
        self.text, self.offsets = text, offsets

    @classmethod
    def pack(cls, strings: Sequence[str]) -> "Strings":
        """Lay strings end to end; what UTF-8 cannot hold becomes a question mark."""
        encoded = [string.encode(errors="replace") for string in strings]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        """How many strings."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        """One of them."""
        return bytes(self.text[self.offsets[index] : self.offsets[index + 1]]).decode()


class PhraseTable(ABC):
    """Tasks: one phrase about one photo each. A subclass reads the rows of one dataset.

    Args:
        phrases: the different phrases.
        phrase: (rows,) int64, position of each row's phrase in `phrases`.
        photo: (rows,) int64, number of each row's photo.
    """

    def __init__(self, phrases: Sequence[str] | Strings, phrase: Rows, photo: Rows) -> None:
        """Group the rows by phrase and by photo."""
        self.rows = np.arange(len(phrase))
        """(tasks,) int64, the row of each task"""
        self._group(
            phrases if isinstance(phrases, Strings) else Strings.pack(phrases), phrase, photo
        )

    def _group(self, phrases: Strings, phrase: Rows, photo: Rows) -> None:
        self.phrases, self._phrase, self._photo = phrases, phrase, photo
        self._by_phrase, self._by_photo = _Groups(phrase, len(phrases)), _Groups(photo)

    @abstractmethod
    def read_name(self, row: int) -> str:
        """Name of a row, unique in the split, fit for a file."""

    @abstractmethod
    def read_image(self, row: int) -> RGB:
        """The photo of a row, (H, W, 3) uint8."""

    @abstractmethod
    def read_mask(self, row: int) -> Mask:
        """The target of a row, (H, W) bool."""

    def absent_phrases(self, row: int) -> Sequence[str] | None:
        """Phrases known to be absent from the photo of a row.

        None where everything in a photo is annotated: what is not annotated is then absent.
        """
        return None

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.rows)

    def name(self, task: int) -> str:
        """Name of a task, unique in the split."""
        return self.read_name(int(self.rows[task]))

    def phrase(self, task: int) -> int:
        """Position of the task's phrase in `phrases`."""
        return int(self._phrase[task])

    def image(self, task: int) -> RGB:
        """The photo, (H, W, 3) uint8."""
        return self.read_image(int(self.rows[task]))

    def mask(self, task: int) -> Mask:
        """The target, (H, W) bool."""
        return self.read_mask(int(self.rows[task]))

    def tasks_of_phrase(self, phrase: int) -> Rows:
        """Tasks with exactly this phrase."""
        return self._by_phrase[phrase]

    def tasks_of_image(self, task: int) -> Rows:
        """Tasks about the task's photo, itself among them."""
        return self._by_photo[int(self._photo[task])]

    def possible_phrases(self, task: int) -> Rows:
        """Positions of all phrases that are not known to be absent from the task's photo."""
        absent = self.absent_phrases(int(self.rows[task]))
        if absent is None:
            return self._phrase[self.tasks_of_image(task)]
        listed = set(absent)
        return np.flatnonzero([self.phrases[row] not in listed for row in range(len(self.phrases))])

    def select(self, stays: npt.NDArray[np.bool_]) -> Self:
        """Some of the tasks, (tasks,) bool, and the phrases that these have.

        The photos stay, and with them the pixels of what is no longer named; negative phrases are
        drawn from what is left.
        """
        part = copy(self)
        part.rows = self.rows[stays]
        named, phrase = np.unique(self._phrase[stays], return_inverse=True)
        phrases = Strings.pack([self.phrases[row] for row in named.tolist()])
        part._group(phrases, phrase, self._photo[stays])
        return part

    def without(self, left_out: Callable[[str], bool]) -> Self:
        """The tasks whose phrases do not pass a test."""
        stays = [not left_out(self.phrases[row]) for row in range(len(self.phrases))]
        return self.select(np.array(stays, np.bool_)[self._phrase])

    def without_lone_phrases(self) -> Self:
        """The tasks whose phrases other tasks have too, so that these can support them."""
        return self.select(self._by_phrase.sizes[self._phrase] > 1)


class _Groups:
    """Positions of equal numbers."""

    def __init__(self, owner: Rows, count: int = 0) -> None:
        self.sizes = np.bincount(owner, minlength=count)
        self._order, self._ends = np.argsort(owner, kind="stable"), np.cumsum([0, *self.sizes])

    def __getitem__(self, number: int) -> Rows:
        return self._order[self._ends[number] : self._ends[number + 1]]
