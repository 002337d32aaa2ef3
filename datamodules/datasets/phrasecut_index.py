"""PhraseCut's annotations as flat arrays on disk, mapped into memory by every worker and rank.

`refer_train.json` is 340 MB of text; as Python objects it would fill gigabytes in every worker.
It is read once, task by task (`phrasecut_build`), into arrays that processes share through the
page cache.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.datasets.transforms import Points


class Strings:
    """Many strings in one array of bytes.

    Args:
        text: (total,) uint8, utf-8.
        offsets: (count + 1,) int64.
    """

    def __init__(self, text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> None:
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


class PhraseCutIndex:
    """The tasks of one split.

    Args:
        folder: what `build_index` returned.
    """

    def __init__(self, folder: Path) -> None:
        """Map the arrays; nothing is read yet."""
        self.folder = folder

        def load(name: str) -> npt.NDArray[Any]:
            array: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r")
            return array

        self.image_id, self.image_size = load("image_id"), load("image_size")
        self.task_image, self.task_phrase = load("task_image"), load("task_phrase")
        self.phrases = Strings(load("phrases"), load("phrases_offsets"))
        self.task_id = Strings(load("task_id"), load("task_id_offsets"))
        self._points, self._point_offsets = load("points"), load("point_offsets")
        self._polygon_offsets = load("polygon_offsets")
        self._by_phrase, self._by_phrase_offsets = load("by_phrase"), load("by_phrase_offsets")
        self._by_image, self._by_image_offsets = load("by_image"), load("by_image_offsets")
        self.skipped: dict[str, list[str]] = json.loads((folder / "skipped.json").read_text())

    def __reduce__(self) -> tuple[type["PhraseCutIndex"], tuple[Path]]:
        """Let spawned workers map the files anew: pickled, the arrays would be copied."""
        return PhraseCutIndex, (self.folder,)

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.task_image)

    def polygons(self, task: int) -> list[Points]:
        """The polygons of a task, all instances together."""
        first, last = self._polygon_offsets[task : task + 2]
        offsets = self._point_offsets[first : last + 1]
        return [self._points[a:b] for a, b in pairwise(offsets)]

    def tasks_of_phrase(self, phrase: int) -> npt.NDArray[np.int64]:
        """Tasks with exactly this phrase, in order."""
        first, last = self._by_phrase_offsets[phrase : phrase + 2]
        return self._by_phrase[first:last]

    def tasks_of_image(self, image: int) -> npt.NDArray[np.int64]:
        """Tasks about an image, by its row."""
        first, last = self._by_image_offsets[image : image + 2]
        return self._by_image[first:last]


def is_whole(folder: Path) -> bool:
    """Whether an index is there with all its files, none of them cut short."""
    try:
        PhraseCutIndex(folder)
    except (OSError, ValueError, EOFError):
        return False
    return True


def describe_skipped(skipped: Mapping[str, Sequence[str]]) -> str:
    """How many tasks were left out, by reason."""
    return ", ".join(f"{len(names)} {reason}" for reason, names in skipped.items())
