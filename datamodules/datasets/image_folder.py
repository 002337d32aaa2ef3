"""Custom photos with phrase annotations, and the choice of validation photos."""

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

_MAX_NAME = 100


class ImageFolder(PhraseTable):
    """Tasks on custom photos: all rows of a table.

    Args:
        annotations: the table.
    """

    def __init__(self, annotations: Annotations) -> None:
        """List the tasks; photos and masks are read on access."""
        self.annotations = annotations
        super().__init__(annotations.phrases, annotations.phrase, annotations.photo)

    def about(self, photos: npt.NDArray[np.bool_]) -> Self:
        """Select the tasks about the photos marked in `photos`, (photos,) bool."""
        return self.select(photos[self._photo])

    def read_name(self, row: int) -> str:
        """Return a task name made of the photo's name and the row number."""
        stem = Path(self.annotations.photos[self.annotations.photo[row]]).with_suffix("")
        plain = re.sub(r"[^\w.-]+", "_", str(stem)).strip("_.")[-_MAX_NAME:]
        return f"{plain}__{self.annotations.number[row]}"

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8, after EXIF orientation.

        Raises:
            UnreadableImageError: if the file is unreadable or its size has changed.
        """
        photo = self.annotations.photo[row]
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
        mask = self.annotations.masks(row)
        if mask.shape != tuple(self.annotations.sizes[self.annotations.photo[row]]):
            raise UnreadableImageError(
                f"{self.annotations.file}: the size of the mask of row "
                f"{self.annotations.number[row]} has changed since it was checked"
            )
        return mask


def validation_photos(annotations: Annotations, share: float) -> npt.NDArray[np.bool_]:
    """Choose the validation photos, by the hashes of their names.

    The choice depends on the names alone. It is the same for every seed and machine, and adding
    photos moves few others between training and validation.

    Args:
        annotations: the table.
        share: fraction of the photos used for validation, 0 to 1; photos without rows in the table
            do not count. At least one photo is chosen, and at least one is left for training.

    Returns:
        (photos,) bool, true for validation photos.

    Raises:
        ValueError: if fewer than two photos have rows.
    """
    photos = np.unique(annotations.photo).tolist()
    if len(photos) < 2:
        skipped = f" (skipped: {reasons(annotations.skipped)})" if annotations.skipped else ""
        raise ValueError(
            f"{annotations.file}: only one photo has usable rows{skipped}; add photos, or set a "
            "separate validation table with --data.init_args.val.table"
        )
    ranked = sorted(photos, key=lambda p: hashlib.sha256(annotations.photos[p].encode()).digest())
    count = min(max(round(share * len(photos)), 1), len(photos) - 1)
    chosen = np.zeros(len(annotations.photos), np.bool_)
    chosen[ranked[:count]] = True
    return chosen


def reject_common_photos(train: Annotations, other: Annotations) -> None:
    """Reject photos that are used for both training and evaluation.

    Raises:
        ValueError: if the tables share photos; the message gives the first and the count.
    """
    train_photos, other_photos = (
        {os.path.abspath(table.photo_file(p)) for p in np.unique(table.photo).tolist()}
        for table in (train, other)
    )
    common = sorted(train_photos & other_photos)
    if common:
        raise ValueError(
            f"{other.file}: {len(common)} of its photos are also in {train.file}; first: "
            f"{common[0]}; remove them from one of the two tables"
        )
