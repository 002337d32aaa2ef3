"""Masks of custom datasets: binary mask images, and label maps."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import UnreadableImageError, open_image
from clipseg_pl.prompts.masks import exif_note, load_mask
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Sizes, in_threads, photo_sizes, reject_missing
from datamodules.datasets.files import cache_folder, cache_key, drafting, writing_to
from datamodules.datasets.phrase_table import Rows, Strings

NO_LABEL = -1
"""stands for the label of rows without one, whose mask is everything marked in the file"""
_VERSION = 4
"""version of the cached results of `check_files`; increase it when the results change"""


@dataclass(frozen=True)
class OwnMasks:
    """Function that takes a row and reads its mask: all marked pixels of a file, or one label.

    Args:
        folder: folder that names are relative to.
        names: unique names of the mask files.
        file: (rows,) int64, index into `names`.
        label: (rows,) int64, label or `NO_LABEL`.
    """

    folder: Path
    names: Strings
    file: Rows
    label: Rows

    def __call__(self, row: int) -> Mask:
        """Read the mask of a row, (H, W) bool.

        Raises:
            UnreadableImageError: if the file is unreadable or ambiguous, see `load_mask`.
        """
        file, label = self.folder / self.names[self.file[row]], int(self.label[row])
        return dict(masks_by_label(file, [label]))[label]


def masks_by_label(file: Path, labels: Iterable[int]) -> Iterator[tuple[int, Mask]]:
    """Read the masks of one file, opening it as few times as possible.

    Args:
        file: any mask image for `NO_LABEL`, a label map for other labels.
        labels: labels to read. A label selects the pixels with this value as stored (the index, if
            the image has a palette). `NO_LABEL` selects what `load_mask` marks, as for visual
            prompts.

    Yields:
        Each unique label and its mask, (H, W) bool.

    Raises:
        UnreadableImageError: if the file is unreadable or ambiguous, or a label is read from a
            colour image or a JPEG.
    """
    unique = set(labels)
    if NO_LABEL in unique:
        yield NO_LABEL, load_mask(file)
    stored = unique - {NO_LABEL}
    values = _read_label_map(file) if stored else None
    for label in stored:
        yield label, np.asarray(values == label)


def check_files(
    table: Path, images: Path, photos: Strings, photo: Rows, masks: OwnMasks, number: Rows
) -> tuple[Sizes, npt.NDArray[np.bool_]]:
    """Check the headers of all photos, and all masks; results are cached until a file changes.

    Args:
        table: file of the table.
        images: folder of the photos.
        photos: names of the photos.
        photo: (rows,) index into `photos`.
        masks: masks of the rows.
        number: (rows,) line numbers in the table.

    Returns:
        Height and width of the photos, (photos, 2) int32; and whether the mask of each row has any
        pixel, (rows,) bool.

    Raises:
        DatasetNotFoundError: if photos or masks are missing.
        UnreadableImageError: if a mask is unreadable or ambiguous.
        ValueError: if the size of a mask differs from its photo's, a label occurs in no mask, or
            the cached results are damaged.
    """
    names = [photos[row] for row in range(len(photos))]
    mask_names = [masks.names[row] for row in range(len(masks.names))]
    missing = [name for name in mask_names if not (masks.folder / name).is_file()]
    files = [table, *(images / name for name in names)]
    files += [masks.folder / name for name in mask_names]
    key = cache_key(_VERSION, files)
    checked = cache_folder() / "own" / f"{table.stem}-{key}.npz"
    if not checked.is_file():
        with drafting(checked) as draft:
            if not checked.is_file():  # another process may have finished while this one waited
                sizes = photo_sizes(table, images, names)
                reject_missing(table, masks.folder, "masks", missing, len(mask_names))
                covers = _check_masks(table, images, photos, photo, masks, number, sizes)
                with writing_to(checked.parent):
                    np.savez(draft / checked.name, sizes=sizes, covers=covers)
                    os.replace(draft / checked.name, checked)
    try:
        with np.load(checked) as found:
            return found["sizes"], found["covers"]
    except Exception as error:  # numpy and zipfile raise many types of errors
        raise ValueError(f"{checked}: damaged cache file ({error}); delete it") from error


def _read_label_map(file: Path) -> npt.NDArray[np.generic]:
    with open_image(file) as image:
        form, values = image.format, np.asarray(image)
    if form == "JPEG":
        raise UnreadableImageError(
            f"{file}: label maps cannot be JPEGs, whose compression changes labels; use PNG"
        )
    if values.ndim != 2:
        raise UnreadableImageError(
            f"{file}: label maps must have one channel (mode L or P), not colours"
        )
    return values


def _check_masks(
    table: Path,
    images: Path,
    photos: Strings,
    photo: Rows,
    masks: OwnMasks,
    number: Rows,
    sizes: Sizes,
) -> npt.NDArray[np.bool_]:
    """Return whether the mask of each row has any pixel, (rows,); see `check_files`."""
    order = np.argsort(masks.file, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(masks.file))[:-1]) if len(order) else []

    def check(rows: Rows) -> tuple[tuple[int, ...], list[bool]]:
        labels, size, any_pixel = masks.label[rows].tolist(), (0, 0), dict[int, bool]()
        for label, mask in masks_by_label(masks.folder / masks.names[masks.file[rows[0]]], labels):
            size, any_pixel[label] = mask.shape, bool(mask.any())
        return size, [any_pixel[label] for label in labels]

    covers, mask_sizes = np.zeros(len(order), np.bool_), np.zeros((len(order), 2), np.int32)
    found = in_threads(check, rows_of, f"masks of {table}")
    for rows, (size, any_pixel) in zip(rows_of, found, strict=True):
        covers[rows], mask_sizes[rows] = any_pixel, size
    wrong = np.flatnonzero((sizes[photo] != mask_sizes).any(1))
    if len(wrong):
        row = wrong[0]
        (height, width), (mask_height, mask_width) = sizes[photo[row]], mask_sizes[row]
        files = images / photos[photo[row]], masks.folder / masks.names[masks.file[row]]
        raise ValueError(
            f"{table}: {len(wrong)} masks differ in size from their photos; first: line "
            f"{number[row]}, photo {height} x {width} (height x width), mask {mask_height} x "
            f"{mask_width}" + exif_note(sizes[photo[row]], mask_sizes[row], *files)
        )
    labelled = masks.label != NO_LABEL
    unknown = np.setdiff1d(masks.label[labelled], masks.label[labelled & covers])
    if len(unknown):
        rows = np.flatnonzero(masks.label == unknown[0])
        raise ValueError(
            f"{table}: label {unknown[0]} (line {number[rows[0]]}) occurs in none of the "
            f"{len(rows)} masks of its rows"
        )
    return covers
