"""Phrase annotations of custom photos, and the checks shared by all table formats."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from rich.progress import track

from clipseg_pl.images import RGB, UnreadableImageError, image_size, read_image
from clipseg_pl.photo_files import open_header
from clipseg_pl.prompts.masks import exif_note
from clipseg_pl.prompts.text import normalise_phrase
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrase_table import Rows, Strings

Sizes = npt.NDArray[np.int32]
Split = Literal["train", "val", "test"]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

NO_PHRASE = "without a phrase"
EMPTY = "with an empty mask"


@dataclass(frozen=True)
class Annotations:
    """Annotations of photos as flat arrays, which forked data workers share.

    Each row is a task: one phrase about one photo. A photo without rows shows none of the
    phrases, except those in `unknown`.

    Args:
        file: file of the annotations.
        folder: folder that photo names are relative to.
        photos: unique names of the photos, as normalised paths; some may have no annotations.
        sizes: (photos, 2) int32, height and width after EXIF orientation.
        phrases: unique phrases, normalised by `normalise_phrase`; of a COCO file, only the
            categories that annotations use. The splits of an export share their phrases.
        photo: (rows,) int64, index into `photos`.
        phrase: (rows,) int64, index into `phrases`.
        number: (rows,) int64, line in the table, for messages; a running number in other formats.
        masks: function that takes a row and returns its mask, (H, W) bool, of the photo's size.
        skipped: number of skipped rows of the file, by reason.
        valid: function that takes a row and returns (H, W) bool, false on pixels to ignore; None
            if no pixel of the row is ignored. None if no row ignores pixels.
        row_boxes: (rows,) int64, number of annotations of each row with a box and no mask, which
            were filled as rectangles; None if the format has no boxes.
        unknown: (n, 2) int64, photo and phrase: the phrase has annotations without a usable mask on
            this photo, so that its target is unknown.
        unused: categories of the file without annotations.
        phrasings: first phrasing of a phrase, as in `phrases` -> all of its phrasings, for phrases
            that have several.
        group: (photos,) int64, row of each photo in `annotated_phrases`; None if all phrases are
            annotated on all photos.
        annotated_phrases: (groups, phrases) bool, whether the tables of a photo annotate a phrase.
        vocabulary: (n,) int64, phrases that any split of the dataset annotates. They are evaluated
            although this split may have no row with them.
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
    valid: Callable[[int], Mask | None] | None = None
    row_boxes: Rows | None = None
    unknown: Rows = field(default_factory=lambda: np.empty((0, 2), np.int64))
    unused: tuple[str, ...] = ()
    phrasings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group: Rows | None = None
    annotated_phrases: npt.NDArray[np.bool_] | None = None
    vocabulary: Rows = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def boxes(self) -> int:
        """Number of annotations with a box and no mask that were filled as rectangles."""
        return 0 if self.row_boxes is None else int(self.row_boxes.sum())

    def photo_file(self, photo: int) -> Path:
        """Return the path of a photo."""
        return self.folder / self.photos[photo]

    def photo_files(self) -> list[str]:
        """Return the absolute paths of all photos."""
        return [os.path.abspath(self.folder / name) for name in self.photo_names()]

    def photo_names(self) -> list[str]:
        """Return the names of all photos."""
        return [self.photos[photo] for photo in range(len(self.photos))]

    def has_masks_to_unite(self) -> bool:
        """Return whether two rows have the same photo and phrase; skipped rows are counted."""
        skipped = np.unique(self.unknown, axis=0)
        pairs = np.concatenate([np.column_stack([self.photo, self.phrase]), skipped])
        return len(np.unique(pairs, axis=0)) < len(pairs)

    def without_annotations(self) -> Rows:
        """Return the indices of the photos without rows, whose phrases are all known."""
        annotated = np.concatenate([self.photo, self.unknown[:, 0]])
        return np.setdiff1d(np.arange(len(self.photos)), annotated)


def class_phrase(name: str) -> str:
    """Convert the name of a class to a phrase; underscores become blanks."""
    return normalise_phrase(name.replace("_", " "))


class Positions(dict[str, int]):
    """Map strings to consecutive integers, in the order of first use."""

    def __missing__(self, key: str) -> int:
        """Assign the next integer."""
        self[key] = len(self)
        return self[key]


def read_annotated(file: Path, size: tuple[int, int]) -> RGB:
    """Read a photo of the annotated height and width, (H, W, 3) uint8.

    Raises:
        UnreadableImageError: if the file is unreadable or of another size.
    """
    image = read_image(file)
    found = image.shape[:2]
    if found != size:
        note = exif_note(found, size, file)
        raise UnreadableImageError(f"{file}: size is {found}, annotated as {size}{note}")
    return image


def photo_sizes(file: Path, folder: Path, names: Sequence[str]) -> Sizes:
    """Read height and width of photos from their headers, after EXIF orientation.

    Returns:
        (photos, 2) int32.

    Raises:
        DatasetNotFoundError: if photos are missing or not images; the message gives the first
            and the count.
    """
    found = in_threads(lambda name: image_size(folder / name, True), names, f"photos of {file}")
    missing = [name for name, size in zip(names, found, strict=True) if size is None]
    reject_missing(file, folder, "photos", missing, len(names))
    return np.array(found, np.int32).reshape(-1, 2)


def reject_shared(photos: Sequence[str], files: Sequence[Path]) -> None:
    """Reject photos that differ only in their extension, whose annotations have the same file.

    Args:
        photos: names of the photos.
        files: file with the annotations of each photo.

    Raises:
        ValueError: if two photos have the same file.
    """
    owner: dict[Path, str] = {}
    for photo, file in zip(photos, files, strict=True):
        if file in owner:
            raise ValueError(f"{file} belongs to both {owner[file]} and {photo}; rename one photo")
        owner[file] = photo


def reject_missing(file: Path, folder: Path, kind: str, missing: Sequence[str], total: int) -> None:
    """Reject a table that refers to missing or unreadable files.

    Args:
        file: the table.
        folder: folder that the file names are relative to.
        kind: plural noun for the files, for the message.
        missing: names of the missing files.
        total: number of files that the table refers to.

    Raises:
        DatasetNotFoundError: if any is missing; the message gives the count and the first path.
    """
    if missing:
        first = folder / missing[0]
        reason = ""
        try:
            open_header(first).close()
        except ValueError as error:
            reason = f" ({error})"
        except Exception:  # missing or damaged: there is no reason to add
            pass
        raise DatasetNotFoundError(
            f"{file}: {len(missing)} of its {total} {kind} are missing or not images; first: "
            f"{first}{reason}"
        )


def reject_unusable(file: Path, usable: int, skipped: Counter[str]) -> dict[str, int]:
    """Reject a table without usable rows.

    Args:
        file: the table.
        usable: number of usable rows.
        skipped: number of skipped rows, by reason.

    Returns:
        `skipped` without reasons of count 0.

    Raises:
        ValueError: if there is no usable row.
    """
    counts = dict(+skipped)
    if not usable:
        raise ValueError(f"{file}: no usable rows; skipped: {reasons(counts) or 'none'}")
    return counts


def reasons(skipped: Mapping[str, int]) -> str:
    """Format the number of skipped rows by reason, for messages."""
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items())


def in_threads(
    check: Callable[[_Item], _Result], items: Sequence[_Item], description: str
) -> list[_Result]:
    """Apply `check` to each item in eight threads, with a progress bar on terminals."""
    with ThreadPoolExecutor(8) as pool:
        results: Iterable[_Result] = track(
            pool.map(check, items),
            description=f"checking {description}",
            total=len(items),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        return list(results)
