"""Masks of custom datasets: binary mask images, and label maps."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_pl.images import UnreadableImageError, open_image
from clipseg_pl.prompts.masks import exif_note, load_mask
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Sizes, in_threads, photo_sizes, reject_missing
from datamodules.datasets.files import cache_folder, cache_key, drafting, writing_to
from datamodules.datasets.phrase_table import Rows, Strings

NO_LABEL = -1
"""stands for the label of rows without one, whose mask is everything marked in the file"""
_VERSION = 6
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

        A label selects the pixels with this value as stored (the index, if the image has a
        palette). `NO_LABEL` selects what `load_mask` marks, as for visual prompts.

        Raises:
            UnreadableImageError: if the file is unreadable or ambiguous (see `load_mask`), or a
                label is read from a colour image or a JPEG.
        """
        file, label = self.path(row), int(self.label[row])
        return load_mask(file) if label == NO_LABEL else np.asarray(read_label_map(file) == label)

    def path(self, row: int) -> Path:
        """Return the mask file of a row."""
        return self.folder / self.names[self.file[row]]


@dataclass(frozen=True)
class ValidPixels:
    """Function that takes a row and reads which pixels of its label map are not to be ignored.

    Args:
        masks: masks of the rows.
        ignore_label: value of the pixels to ignore.
        partial: (rows,) bool, whether the label map of a row has pixels to ignore.
    """

    masks: OwnMasks
    ignore_label: int
    partial: npt.NDArray[np.bool_]

    def __call__(self, row: int) -> Mask | None:
        """Read the pixels that are not ignored, (H, W) bool; None if none is ignored."""
        if not self.partial[row]:
            return None
        return np.asarray(read_label_map(self.masks.path(row)) != self.ignore_label)


def valid_pixels(masks: OwnMasks, stored: Rows, ignore_label: int | None) -> ValidPixels | None:
    """Find the rows whose label maps have pixels to ignore.

    Args:
        masks: masks of the rows. Rows without a label ignore no pixels.
        stored: values of the label maps from `check_files`.
        ignore_label: value of the pixels to ignore.

    Returns:
        None if no row ignores pixels, for example because `ignore_label` is the label of a row.
    """
    if ignore_label is None or ignore_label in masks.label:
        return None
    files = stored[stored[:, 1] == ignore_label, 0]
    partial = np.isin(masks.file, files) & (masks.label != NO_LABEL)
    return ValidPixels(masks, ignore_label, partial) if partial.any() else None


def check_files(
    table: Path, images: Path, photos: Strings, photo: Rows, masks: OwnMasks
) -> tuple[Sizes, npt.NDArray[np.bool_], Rows]:
    """Check the headers of all photos, and all masks; results are cached until a file changes.

    Args:
        table: file of the table.
        images: folder of the photos.
        photos: names of the photos.
        photo: (rows,) index into `photos`.
        masks: masks of the rows.

    Returns:
        Height and width of the photos, (photos, 2) int32; whether the mask of each row has any
        pixel, (rows,) bool; and the values stored in the label maps, (n, 2) int64: the file as an
        index into `masks.names`, and the value.

    Raises:
        DatasetNotFoundError: if photos or masks are missing.
        UnreadableImageError: if a mask is unreadable or ambiguous.
        ValueError: if the size of a mask differs from its photo's, or the cached results are
            damaged.
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
                covers, stored = _check_masks(table, images, photos, photo, masks, sizes)
                with writing_to(checked.parent):
                    np.savez(draft / checked.name, sizes=sizes, covers=covers, stored=stored)
                    os.replace(draft / checked.name, checked)
    try:
        with np.load(checked) as found:
            return found["sizes"], found["covers"], found["stored"]
    except Exception as error:  # numpy and zipfile raise many types of errors
        raise ValueError(f"{checked}: damaged cache file ({error}); delete it") from error


def stored_values(image: Image.Image, file: Path) -> npt.NDArray[Any]:
    """Return the pixels of an image as stored in its file.

    PIL scales the greys of a PNG with 2 or 4 bits to 0..255. This function undoes the scaling.
    """
    values = np.array(image)
    if image.format == "PNG" and image.mode == "L":
        with file.open("rb") as opened:
            depth = opened.read(25)[24]  # the bit depth in the header chunk
        values //= 255 // (2**depth - 1)
    return values


def read_label_map(file: Path) -> npt.NDArray[Any]:
    """Read a label map, (H, W) of integers: the stored values, indices if it has a palette.

    Raises:
        UnreadableImageError: if the file is unreadable, a colour image or a JPEG, or if a value is
            negative or not an integer.
    """
    with open_image(file) as image:
        form, values = image.format, stored_values(image, file)
    if form == "JPEG":
        raise UnreadableImageError(
            f"{file}: label maps cannot be JPEGs, whose compression changes labels; use PNG"
        )
    if values.ndim != 2:
        raise UnreadableImageError(
            f"{file}: label maps must have one channel (mode L or P), not colours"
        )
    if values.dtype.kind == "f" or values.min() < 0:
        raise UnreadableImageError(f"{file}: label maps must have integers of 0 or more")
    return values


def _check_masks(
    table: Path, images: Path, photos: Strings, photo: Rows, masks: OwnMasks, sizes: Sizes
) -> tuple[npt.NDArray[np.bool_], Rows]:
    """Return whether each mask has any pixel, and the stored values; see `check_files`."""
    order = np.argsort(masks.file, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(masks.file))[:-1]) if len(order) else []

    problems: list[UnreadableImageError] = []

    def check(rows: Rows) -> tuple[tuple[int, ...], npt.NDArray[np.bool_], Rows]:
        labels, any_pixel, size = masks.label[rows], False, (0, 0)
        values = np.empty(0, np.int64)
        try:
            if NO_LABEL in labels:
                mask = load_mask(masks.path(rows[0]))
                size, any_pixel = mask.shape, bool(mask.any())
            if (labels != NO_LABEL).any():
                label_map = read_label_map(masks.path(rows[0]))
                size, values = label_map.shape, np.unique(label_map).astype(np.int64)
        except UnreadableImageError as error:
            problems.append(error)
        return size, np.where(labels == NO_LABEL, any_pixel, np.isin(labels, values)), values

    covers, mask_sizes = np.zeros(len(order), np.bool_), np.zeros((len(order), 2), np.int32)
    stored = [np.empty((0, 2), np.int64)]
    found = in_threads(check, rows_of, f"masks of {table}")
    if len(problems) > 1:
        raise UnreadableImageError(
            f"{len(problems)} of {len(rows_of)} masks cannot be used; first: "
            f"{min(map(str, problems))}"
        )
    if problems:
        raise problems[0]
    for rows, (size, any_pixel, values) in zip(rows_of, found, strict=True):
        covers[rows], mask_sizes[rows] = any_pixel, size
        stored.append(np.column_stack([np.full_like(values, masks.file[rows[0]]), values]))
    wrong = np.flatnonzero((sizes[photo] != mask_sizes).any(1))
    if len(wrong):
        row = int(wrong[0])
        (height, width), (mask_height, mask_width) = sizes[photo[row]], mask_sizes[row]
        files = images / photos[photo[row]], masks.path(row)
        raise ValueError(
            f"{table}: {len(np.unique(masks.file[wrong]))} masks differ in size from their photos; "
            f"first: {files[1]} is {mask_height} x {mask_width} (height x width), its photo "
            f"{height} x {width}" + exif_note(sizes[photo[row]], mask_sizes[row], *files)
        )
    return covers, np.concatenate(stored)
