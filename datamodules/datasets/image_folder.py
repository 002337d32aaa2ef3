"""Own photos as tasks with phrases, and which of them are validated on."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from clipseg_pl.images import RGB, UnreadableImageError, load_photo
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Annotations, reasons
from datamodules.datasets.phrase_table import PhraseTable

_LONGEST_NAME = 100


class ImageFolder(PhraseTable):
    """Tasks on own photos: all of a table.

    Args:
        annotations: the table.
    """

    def __init__(self, annotations: Annotations) -> None:
        """Find the tasks; photos and masks are read when they are asked for."""
        self.annotations = annotations
        super().__init__(annotations.phrases, annotations.phrase, annotations.photo)

    def about(self, photos: npt.NDArray[np.bool_]) -> Self:
        """The tasks about some of the photos, (photos,) bool."""
        return self.select(photos[self._photo])

    def read_name(self, row: int) -> str:
        """Name of the photo and number of the row."""
        stem = Path(self.annotations.photos[self.annotations.photo[row]]).with_suffix("")
        plain = re.sub(r"[^\w.-]+", "_", str(stem)).strip("_.")[-_LONGEST_NAME:]
        return f"{plain}__{self.annotations.number[row]}"

    def read_image(self, row: int) -> RGB:
        """The photo, (H, W, 3) uint8, upright.

        Raises:
            UnreadableImageError: naming the file, also if it is no longer of its size.
        """
        photo = self.annotations.photo[row]
        file, size = self.annotations.photo_file(photo), tuple(self.annotations.sizes[photo])
        image = load_photo(file)
        if image.shape[:2] != size:
            raise UnreadableImageError(f"{file}: has changed its size since it was checked")
        return image

    def read_mask(self, row: int) -> Mask:
        """The target, (H, W) bool; raises as `read_image` does."""
        mask = self.annotations.masks(row)
        if mask.shape != tuple(self.annotations.sizes[self.annotations.photo[row]]):
            raise UnreadableImageError(
                f"{self.annotations.file}: the mask of row {self.annotations.number[row]} has "
                "changed its size since it was checked"
            )
        return mask


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
