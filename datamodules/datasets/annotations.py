"""Phrases about own photos, as every kind of table gives them, and what all kinds must hold to."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from rich.progress import track

from clipseg_pl.images import image_size
from clipseg_pl.photo_files import open_header
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrase_table import Rows, Strings

Sizes = npt.NDArray[np.int32]
_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")

NO_PHRASE = "without a phrase"
EMPTY = "whose mask is empty"


@dataclass(frozen=True)
class Annotations:
    """Phrases about photos, a row a task, in flat arrays that forked workers share.

    Args:
        file: they were read from.
        folder: that the names of photos start from.
        photos: names of the different photos, normalised.
        sizes: (photos, 2) int32, height and width as viewers show them.
        phrases: the different phrases, as `words` writes them.
        photo: (rows,) int64, position of the row's photo in `photos`.
        phrase: (rows,) int64, the same for its phrase.
        number: (rows,) int64, of the row in the file, for names that are unique in it.
        masks: row to mask, (H, W) bool, of the photo's size.
        skipped: rows of the file that are left out, by reason.
    """

    file: Path
    folder: Path
    photos: Strings
    sizes: Sizes
    phrases: Strings
    photo: Rows
    phrase: Rows
    number: Rows
    masks: Callable[[int], Mask]
    skipped: dict[str, int]

    def photo_file(self, photo: int) -> Path:
        """Where a photo lies."""
        return self.folder / self.photos[photo]


class Positions(dict[str, int]):
    """Numbers strings as they are first asked for."""

    def __missing__(self, key: str) -> int:
        """The next number."""
        self[key] = len(self)
        return self[key]


def words(given: str) -> str:
    """A phrase in lower case (CLIP reads no other) with single blanks, so that equals are equal."""
    return " ".join(given.split()).lower()


def photo_sizes(file: Path, folder: Path, names: Sequence[str]) -> Sizes:
    """Height and width of photos, upright, from their headers: (photos, 2) int32.

    Raises:
        DatasetNotFoundError: naming the first that is missing or no image, and how many are.
    """
    found = in_threads(lambda name: image_size(folder / name, True), names, f"photos of {file}")
    missing = [name for name, size in zip(names, found, strict=True) if size is None]
    refuse_missing(file, folder, "photos", missing, len(names))
    return np.array(found, np.int32).reshape(-1, 2)


def refuse_missing(file: Path, folder: Path, what: str, missing: Sequence[str], of: int) -> None:
    """Say how many files of a table are not there, and where the first was looked for.

    Raises:
        DatasetNotFoundError: if any is missing.
    """
    if missing:
        first = folder / missing[0]
        needed = ""
        try:
            open_header(first).close()
        except ValueError as error:
            needed = f" ({error})"
        except Exception:  # missing or damaged
            pass
        raise DatasetNotFoundError(
            f"{file}: {len(missing)} of its {of} {what} are missing or no images, "
            f"{first} the first{needed}"
        )


def refuse_unusable(file: Path, usable: int, skipped: Counter[str]) -> dict[str, int]:
    """What is left out of a table, by reason.

    Raises:
        ValueError: if that is all of it.
    """
    left_out = dict(+skipped)
    if not usable:
        raise ValueError(f"{file}: no row that can be used; skipped {reasons(left_out) or 'none'}")
    return left_out


def reasons(skipped: Mapping[str, int]) -> str:
    """What is left out of a table, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())


def in_threads(
    answer: Callable[[_Item], _Answer], items: Sequence[_Item], description: str
) -> list[_Answer]:
    """Ask about many files at once; a bar tells how far it is."""
    with ThreadPoolExecutor(8) as pool:
        answers: Iterable[_Answer] = track(
            pool.map(answer, items),
            description=f"checking {description}",
            total=len(items),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        return list(answers)
