"""Base class of all datasets that annotate photos with phrases, one task per row."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask

Rows = npt.NDArray[np.int64]


class Strings:
    """Sequence of strings in one array of bytes, which forked data workers share.

    Args:
        text: (total,) uint8, the concatenated strings in UTF-8.
        offsets: (count + 1,) int64, start of each string in `text`.
    """

    def __init__(self, text: npt.NDArray[np.uint8], offsets: Rows) -> None:
        """Store the arrays, which may be memory-mapped."""
        self.text, self.offsets = text, offsets

    @classmethod
    def pack(cls, strings: Sequence[str]) -> "Strings":
        """Pack strings; characters that UTF-8 cannot encode become question marks."""
        encoded = [string.encode(errors="replace") for string in strings]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends)

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> str:
        """Return one string."""
        return bytes(self.text[self.offsets[index] : self.offsets[index + 1]]).decode()


def slug(text: str, length: int = 100) -> str:
    """Convert text to a part of a file name: letters, digits, points, hyphens and underscores.

    The last `length` characters are kept. The result has no two underscores in a row, so that they
    can separate parts.
    """
    return re.sub(r"[^\w.-]+|_+", "_", text).strip("_.")[-length:]


def unique_names(names: Iterable[str]) -> list[str]:
    """Append `_2`, `_3`, ... to names that were used before."""
    found: dict[str, int] = {}
    for name in names:
        number, new = found.get(name, 0), name
        while new in found:
            number += 1
            new = f"{name}_{number + 1}"
        found[name] = number
        found.setdefault(new, 0)
    return list(found)


class PhraseTable(ABC):
    """Tasks of a dataset: one phrase about one photo each. Subclasses read photos and masks.

    A task is an index into this table. A row is an index into the annotations of the dataset. The
    two differ after `select`, which removes tasks but no rows. The last tasks can be photos without
    annotations, which have no phrase.

    Args:
        phrases: unique phrases.
        phrase: (rows,) int64, index of each row's phrase in `phrases`; -1 for photos without
            annotations, which must come last.
        photo: (rows,) int64, index of each row's photo.
        coco_ids: (rows,) int64, COCO's id of each row's photo, -1 for other photos; None if no
            photo is COCO's.
    """

    def __init__(
        self,
        phrases: Sequence[str] | Strings,
        phrase: Rows,
        photo: Rows,
        coco_ids: Rows | None = None,
    ) -> None:
        """Group the rows by phrase and by photo."""
        self.coco_ids = coco_ids
        """(tasks,) int64, COCO's id of each task's photo, -1 for other photos; or None"""
        self.rows = np.arange(len(phrase))
        """(tasks,) int64, row of each task"""
        self.phrase_ids = np.arange(len(phrases))
        """(phrases,) int64, index of each phrase before any `select`"""
        self.vocabulary = np.empty(0, np.int64)
        """(n,) int64, phrases that `select` keeps although no task has them"""
        self._group(
            phrases if isinstance(phrases, Strings) else Strings.pack(phrases), phrase, photo
        )

    def _group(self, phrases: Strings, phrase: Rows, photo: Rows) -> None:
        self.phrases, self._phrase, self._photo = phrases, phrase, photo
        self._by_phrase, self._by_photo = _Groups(phrase[phrase >= 0], len(phrases)), _Groups(photo)

    @abstractmethod
    def read_name(self, row: int) -> str:
        """Return the name of a row, unique in the split and valid as a file name."""

    @abstractmethod
    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8."""

    @abstractmethod
    def read_mask(self, row: int) -> Mask:
        """Read the target of a row, (H, W) bool."""

    def read_valid(self, row: int) -> Mask | None:
        """Read the pixels of a row to use, (H, W) bool; None for all pixels."""
        return None

    def absent_phrases(self, row: int) -> Sequence[str] | None:
        """Return the phrases known to be absent from the photo of a row.

        None means that the annotation is exhaustive: all phrases not annotated are absent.
        """
        return None

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self.rows)

    def name(self, task: int) -> str:
        """Return the name of a task, unique in the split."""
        return self.read_name(int(self.rows[task]))

    def photo_name(self, task: int) -> str:
        """Return the name of a task's photo; the name of the task if the photo has no other."""
        return self.name(task)

    def phrase(self, task: int) -> int:
        """Return the index of a task's phrase in `phrases`; -1 if the photo has no annotations."""
        return int(self._phrase[task])

    def phrasings(self, phrase: int) -> Sequence[str]:
        """Return all phrasings of a phrase. The first is the one in `phrases`."""
        return (self.phrases[phrase],)

    def image(self, task: int) -> RGB:
        """Read the photo of a task, (H, W, 3) uint8."""
        return self.read_image(int(self.rows[task]))

    def mask(self, task: int) -> Mask:
        """Read the target of a task, (H, W) bool."""
        return self.read_mask(int(self.rows[task]))

    def valid(self, task: int) -> Mask | None:
        """Read the pixels of a task to use, (H, W) bool; None for all pixels."""
        return self.read_valid(int(self.rows[task]))

    def without_annotations(self) -> Rows:
        """Return the tasks that are photos without annotations."""
        return np.flatnonzero(self._phrase < 0)

    def tasks_of_phrase(self, phrase: int) -> Rows:
        """Return the tasks with this phrase."""
        return self._by_phrase[phrase]

    def partners(self, task: int, phrase: int) -> Rows:
        """Return the tasks whose photos can serve as support image.

        The support image is for `phrase`, prompted on the photo of `task`. By default, these are
        the tasks with this phrase, which may include the task itself.
        """
        return self.tasks_of_phrase(phrase)

    def tasks_of_image(self, task: int) -> Rows:
        """Return the tasks about the photo of a task, including the task itself."""
        return self._by_photo[int(self._photo[task])]

    def possible_phrases(self, task: int) -> Rows:
        """Return the indices of the phrases that may be present in the photo of a task."""
        absent = self.absent_phrases(int(self.rows[task]))
        if absent is None:
            present = self._phrase[self.tasks_of_image(task)]
            return present[present >= 0]
        known_absent = set(absent)
        return np.flatnonzero(
            [self.phrases[index] not in known_absent for index in range(len(self.phrases))]
        )

    def select(self, keep: npt.NDArray[np.bool_]) -> Self:
        """Return a table with the tasks marked in `keep`, (tasks,) bool, and their phrases.

        Phrases in `vocabulary` are kept, too.

        Photos are not altered: objects of removed phrases stay visible. Negative phrases are
        sampled from the remaining phrases.
        """
        part = copy(self)
        part.rows = self.rows[keep]
        part.coco_ids = None if self.coco_ids is None else self.coco_ids[keep]
        phrase = self._phrase[keep]
        used = np.union1d(phrase[phrase >= 0], self.vocabulary)
        part.vocabulary = np.searchsorted(used, self.vocabulary)
        phrases = Strings.pack([self.phrases[index] for index in used.tolist()])
        part.phrase_ids = self.phrase_ids[used]
        kept = np.where(phrase < 0, -1, np.searchsorted(used, phrase))
        part._group(phrases, kept, self._photo[keep])
        return part

    def without(self, excluded: Callable[[str], bool]) -> Self:
        """Return a table without the tasks whose phrases are excluded."""
        keep = [not excluded(self.phrases[index]) for index in range(len(self.phrases))]
        return self.select(np.array([*keep, True], np.bool_)[self._phrase])

    def without_lone_phrases(self) -> Self:
        """Return a table without the tasks whose phrase occurs once, so that no support exists."""
        return self.select(np.append(self._by_phrase.sizes > 1, True)[self._phrase])


class _Groups:
    """Positions of equal values in an array of non-negative integers."""

    def __init__(self, owner: Rows, count: int = 0) -> None:
        self.sizes = np.bincount(owner, minlength=count)
        self._order, self._ends = np.argsort(owner, kind="stable"), np.cumsum([0, *self.sizes])

    def __getitem__(self, number: int) -> Rows:
        return self._order[self._ends[number] : self._ends[number + 1]]
