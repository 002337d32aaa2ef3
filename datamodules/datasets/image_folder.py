"""Own photos as tasks with phrases, and which of them are validated on."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB, UnreadableImageError, load_photo
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Annotations, Rows, reasons
from datamodules.datasets.phrasecut_index import Strings

_LONGEST_NAME = 100


class ImageFolder:
    """Tasks on own photos: all of a table, or those about some of its photos.

    Args:
        annotations: the table.
        chosen: (photos,) bool, which of its photos; all by default.
    """

    def __init__(
        self, annotations: Annotations, chosen: npt.NDArray[np.bool_] | None = None
    ) -> None:
        """Find the tasks; photos and masks are read when they are asked for."""
        self.annotations = annotations
        if chosen is None:
            chosen = np.ones(len(annotations.photos), np.bool_)
        self.rows = np.flatnonzero(chosen[annotations.photo])
        named, self._phrase = np.unique(annotations.phrase[self.rows], return_inverse=True)
        self.phrases = Strings.pack([annotations.phrases[row] for row in named.tolist()])
        self._by_phrase = _Groups(self._phrase)
        self._by_photo = _Groups(annotations.photo[self.rows])

    def __len__(self) -> int:
        """Number of tasks."""
        return len(self.rows)

    def name(self, task: int) -> str:
        """Name of the photo and number of the row."""
        row = self.rows[task]
        stem = Path(self.annotations.photos[self.annotations.photo[row]]).with_suffix("")
        plain = re.sub(r"[^\w.-]+", "_", str(stem)).strip("_.")[-_LONGEST_NAME:]
        return f"{plain}__{self.annotations.number[row]}"

    def phrase(self, task: int) -> int:
        """Position of the task's phrase in `phrases`."""
        return int(self._phrase[task])

    def image(self, task: int) -> RGB:
        """The photo, (H, W, 3) uint8, upright.

        Raises:
            UnreadableImageError: naming the file, also if it is no longer of its size.
        """
        photo = self.annotations.photo[self.rows[task]]
        file, size = self.annotations.photo_file(photo), tuple(self.annotations.sizes[photo])
        image = load_photo(file)
        if image.shape[:2] != size:
            raise UnreadableImageError(f"{file}: has changed its size since it was checked")
        return image

    def mask(self, task: int) -> Mask:
        """The target, (H, W) bool; raises as `image` does."""
        row = int(self.rows[task])
        mask = self.annotations.masks(row)
        if mask.shape != tuple(self.annotations.sizes[self.annotations.photo[row]]):
            raise UnreadableImageError(
                f"{self.annotations.file}: the mask of row {self.annotations.number[row]} has "
                "changed its size since it was checked"
            )
        return mask

    def tasks_of_phrase(self, phrase: int) -> Rows:
        """Tasks with exactly this phrase."""
        return self._by_phrase[phrase]

    def tasks_of_image(self, task: int) -> Rows:
        """Tasks about the task's photo, itself among them."""
        return self._by_photo[self.annotations.photo[self.rows[task]]]

    def possible_phrases(self, task: int) -> Rows:
        """Positions of all phrases annotated on the task's photo."""
        of_photo: Rows = self._phrase[self.tasks_of_image(task)]
        return of_photo


class _Groups:
    """Positions of equal numbers."""

    def __init__(self, owner: Rows) -> None:
        self._order = np.argsort(owner, kind="stable")
        self._ends = np.cumsum([0, *np.bincount(owner)])

    def __getitem__(self, number: int) -> Rows:
        return self._order[self._ends[number] : self._ends[number + 1]]


def validation_photos(annotations: Annotations, share: float) -> npt.NDArray[np.bool_]:
    """Choose the photos to validate on: those whose names have the lowest hashes.

    The choice is by the names alone, so that it is the same for every seed and machine, and
    that few photos change sides when others are added.

    Args:
        annotations: the table; at least two of its photos have rows.
        share: of these photos, 0 to 1; at least one is chosen, and one is not.

    Returns:
        (photos,) bool.

    Raises:
        ValueError: where one photo only has rows.
    """
    photos = np.unique(annotations.photo).tolist()
    if len(photos) < 2:
        others = f" (skipped {reasons(annotations.skipped)})" if annotations.skipped else ""
        raise ValueError(
            f"{annotations.file}: has one photo with usable rows{others}; add others, or validate "
            "on a table of its own: --data.init_args.val.table"
        )
    ranked = sorted(photos, key=lambda p: hashlib.sha256(annotations.photos[p].encode()).digest())
    count = min(max(round(share * len(photos)), 1), len(photos) - 1)
    chosen = np.zeros(len(annotations.photos), np.bool_)
    chosen[ranked[:count]] = True
    return chosen


def refuse_common_photos(train: Annotations, other: Annotations) -> None:
    """Make sure that no photo is trained and measured on.

    Raises:
        ValueError: naming the first, and how many there are.
    """
    trained, measured = (
        {os.path.abspath(table.photo_file(p)) for p in np.unique(table.photo).tolist()}
        for table in (train, other)
    )
    common = sorted(trained & measured)
    if common:
        raise ValueError(
            f"{other.file}: {len(common)} of its photos are in {train.file} as well, {common[0]} "
            "the first; leave them out of one of the two"
        )
