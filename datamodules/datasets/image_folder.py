"""Custom photos with phrase annotations, and the choice of validation photos."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from clipseg_pl.images import RGB, UnreadableImageError, load_photo
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Annotations, in_threads, reasons
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.phrase_table import (
    PhraseTable,
    Rows,
    Strings,
    slug,
    unique_names,
)


class ImageFolder(PhraseTable):
    """Tasks on custom photos: all rows of a merged table, and the photos without annotations.

    Args:
        annotations: the table.
        evaluated: whether phrases of other splits of the dataset are prompted, too.
    """

    def __init__(self, annotations: Annotations, evaluated: bool = False) -> None:
        """List the tasks; photos and masks are read on access."""
        self.annotations = annotations
        vocabulary = annotations.vocabulary if evaluated else np.empty(0, np.int64)
        used = np.union1d(annotations.phrase, vocabulary)
        phrase = np.searchsorted(used, annotations.phrase)
        phrases = [annotations.phrases[index] for index in used.tolist()]
        unannotated = annotations.without_annotations()
        photo = np.concatenate([annotations.photo, unannotated])
        own_ids = coco_ids(annotations.photo_names())[photo]
        phrase_of_row = np.append(phrase, np.full(len(unannotated), -1))
        super().__init__(phrases, phrase_of_row, photo, own_ids)
        self.vocabulary = np.searchsorted(used, vocabulary)
        self.phrase_ids, self._photo_of_row = used, photo
        self._names = Strings.pack(unique_names(self._file_names(phrases)))

    def _file_names(self, phrases: Sequence[str]) -> Iterator[str]:
        """Yield the name of each row, which may repeat."""
        stems = (Path(photo).with_suffix("") for photo in self.annotations.photo_names())
        photos, words = [slug(str(stem)) for stem in stems], [slug(text) for text in phrases]
        for photo, phrase in zip(self._photo_of_row.tolist(), self._phrase.tolist(), strict=True):
            yield photos[photo] if phrase < 0 else f"{photos[photo]}__{words[phrase]}"

    def about(self, photos: npt.NDArray[np.bool_]) -> Self:
        """Select the tasks about the photos marked in `photos`, (photos,) bool."""
        return self.select(photos[self._photo])

    def files(self) -> list[str]:
        """Return the absolute paths of the photos, each once."""
        files = self.annotations.photo_files()
        return [files[photo] for photo in np.unique(self._photo).tolist()]

    def counts(self, by_phrase: bool) -> dict[str, Any]:
        """Count photos, and annotations filled from boxes; see `ImageFolderDataModule.summary`."""
        unannotated, table = self._phrase < 0, self.annotations
        rows = self.rows[~unannotated]
        phrases = range(len(self.phrases) if by_phrase else 0)
        return {
            "photos": len(np.unique(self._photo)),
            "without annotations": int(unannotated.sum()),
            "filled from boxes": (
                0 if table.row_boxes is None else int(table.row_boxes[rows].sum())
            ),
            "phrases": {
                self.phrases[phrase]: len(np.unique(self._photo[self.tasks_of_phrase(phrase)]))
                for phrase in phrases
            },
        }

    def photo_name(self, task: int) -> str:
        """Return the path of a task's photo below the folder of the table."""
        return self.annotations.photos[int(self._photo[task])]

    def phrasings(self, phrase: int) -> Sequence[str]:
        """Return all phrasings of a phrase. The first is the one in `phrases`."""
        first = self.phrases[phrase]
        return self.annotations.phrasings.get(first, (first,))

    def possible_phrases(self, task: int) -> Rows:
        """Return the indices of the phrases that may be present in the photo of a task.

        These are the phrases of the photo, phrases that have unusable annotations there, and
        phrases that none of the tables of the photo annotates.
        """
        table, photo = self.annotations, self._photo[task]
        present = super().possible_phrases(task)
        unknown = table.unknown[table.unknown[:, 0] == photo, 1]
        if not len(unknown) and table.group is None:
            return present
        possible = np.isin(self.phrase_ids, unknown)
        if table.group is not None and table.annotated_phrases is not None:
            possible |= ~table.annotated_phrases[table.group[photo], self.phrase_ids]
        return np.append(present, np.flatnonzero(possible))

    def read_name(self, row: int) -> str:
        """Return a task name made of the photo's name and the phrase, or of the photo's name."""
        return self._names[row]

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8, after EXIF orientation.

        Raises:
            UnreadableImageError: if the file is unreadable or its size has changed.
        """
        photo = int(self._photo_of_row[row])
        file, size = self.annotations.photo_file(photo), tuple(self.annotations.sizes[photo])
        image = load_photo(file)
        if image.shape[:2] != size:
            raise UnreadableImageError(f"{file}: size has changed since it was checked")
        return image

    def read_mask(self, row: int) -> Mask:
        """Read the target of a row, (H, W) bool.

        Raises:
            UnreadableImageError: if the file is unreadable or its size has changed.
        """
        size = tuple(self.annotations.sizes[self._photo_of_row[row]])
        if row >= len(self.annotations.photo):
            return np.zeros(size, np.bool_)
        mask = self.annotations.masks(row)
        if mask.shape != size:
            raise UnreadableImageError(
                f"{self.annotations.file}: the size of the mask of row "
                f"{self.annotations.number[row]} has changed since it was checked"
            )
        return mask

    def read_valid(self, row: int) -> Mask | None:
        """Read the pixels of a row to use, (H, W) bool; None for all pixels."""
        valid = self.annotations.valid
        return None if valid is None or row >= len(self.annotations.photo) else valid(row)


def validation_photos(annotations: Annotations, share: float) -> npt.NDArray[np.bool_]:
    """Choose the validation photos, by the hashes of their names.

    The choice depends on the names alone. It is the same for every seed and machine, and adding
    photos moves few others between training and validation. Photos with and without annotations are
    chosen separately. Augmented versions of a photo in a Roboflow export stay together.

    Args:
        annotations: the table.
        share: fraction of the photos used for validation, 0 to 1. At least one photo with
            annotations is chosen, and at least one is left for training.

    Returns:
        (photos,) bool, true for validation photos.

    Raises:
        ValueError: if only one photo, or the versions of only one, has rows.
    """
    sources = np.array([source_photo(name) for name in annotations.photo_names()], np.object_)
    annotated = set(sources[annotations.photo])
    others = set(sources[annotations.without_annotations()]) - annotated
    if len(annotated) == 1:
        skipped = f" (skipped: {reasons(annotations.skipped)})" if annotations.skipped else ""
        raise ValueError(
            f"{annotations.file}: only one photo has usable rows{skipped}; add photos, or set a "
            "separate validation table with --data.init_args.val.table"
        )
    chosen = {*_first_by_hash(annotated, share, 1), *_first_by_hash(others, share, 0)}
    return np.array([source in chosen for source in sources], np.bool_)


def source_photo(file: str) -> str:
    """Return the path of a photo without the part that Roboflow adds to each augmented version."""
    return file.partition(".rf.")[0]


def _first_by_hash(names: Collection[str], share: float, least: int) -> list[str]:
    """Choose a share of names, at least `least` and at most all but `least`."""
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return ranked[: min(max(round(share * len(ranked)), least), len(ranked) - least)]


def find_copies(train: Sequence[str], other: Sequence[str]) -> list[tuple[str, str]]:
    """Find photos of one split that are also in the training split.

    Two files are the same photo if they have the same contents. Only files of equal size are read.

    Args:
        train: paths of the training photos.
        other: paths of the photos of the other split.

    Returns:
        Pairs of a training photo and a photo of the other split, in the order of `other`.
    """
    trained = _by_size(train)
    by_size = {size: files for size, files in _by_size(other).items() if size in trained}
    alike = sorted({file for size in by_size for file in (*trained[size], *by_size[size])})
    digests = dict(zip(alike, in_threads(_digest, alike, "copies of photos"), strict=True))
    first = {digests[file]: file for size in by_size for file in reversed(trained[size])}
    found = {file: first.get(digests[file]) for files in by_size.values() for file in files}
    return [(match, file) for file in other if (match := found.get(file)) is not None]


def _by_size(files: Sequence[str]) -> dict[int, list[str]]:
    by_size = defaultdict[int, list[str]](list)
    for file in files:
        by_size[os.path.getsize(file)].append(file)
    return by_size


def _digest(file: str) -> bytes:
    return hashlib.sha256(Path(file).read_bytes()).digest()
