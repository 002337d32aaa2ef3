"""Masks in picture files: what is bright in them, and maps of labels."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import UnreadableImageError, open_image
from clipseg_pl.prompts.masks import exif_note, load_mask
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import Sizes, in_threads, photo_sizes, refuse_missing
from datamodules.datasets.files import cache_folder, cache_key, drafting, writing_to
from datamodules.datasets.phrase_table import Rows, Strings

WHOLE = -1
"""in place of a label: the row means all that its mask marks"""
_VERSION = 4
"""counts up when `check_files` finds otherwise"""


@dataclass(frozen=True)
class OwnMasks:
    """Row to mask: all that a file marks, or a label in it.

    Args:
        folder: that names start from.
        names: of the different files.
        file: (rows,) int64, position in `names`.
        label: (rows,) int64, or `WHOLE`.
    """

    folder: Path
    names: Strings
    file: Rows
    label: Rows

    def __call__(self, row: int) -> Mask:
        """Read a row's mask, (H, W) bool.

        Raises:
            UnreadableImageError: naming the file.
        """
        file = self.folder / self.names[self.file[row]]
        return dict(marked(file, [int(self.label[row])]))[int(self.label[row])]


def marked(file: Path, labels: Iterable[int]) -> Iterator[tuple[int, Mask]]:
    """The pixels that rows about one file mean, read as few times as can be.

    Args:
        file: any picture, where a row has no label; else a map of labels.
        labels: of the rows: those pixels that have this value, as stored (indices, where there is
            a palette); for `WHOLE`, what examples of prompts mean (`load_mask`).

    Yields:
        Each different label with its mask, (H, W) bool.

    Raises:
        UnreadableImageError: naming the file; also for labels in colour or in a JPEG.
    """
    different = set(labels)
    if WHOLE in different:
        yield WHOLE, load_mask(file)
    named = different - {WHOLE}
    values = _read_labels(file) if named else None
    for label in named:
        yield label, np.asarray(values == label)


def check_files(
    table: Path, images: Path, photos: Strings, photo: Rows, masks: OwnMasks, number: Rows
) -> tuple[Sizes, npt.NDArray[np.bool_]]:
    """Look at every photo's header and every mask; found once, it is kept until a file changes.

    Args:
        table: whose rows they are.
        images: folder of the photos.
        photos: their names.
        photo: (rows,) position in `photos`.
        masks: of the rows.
        number: (rows,) lines of the table.

    Returns:
        Height and width of the photos, (photos, 2), and which rows' masks mark anything, (rows,).

    Raises:
        DatasetNotFoundError: if photos or masks are missing.
        UnreadableImageError: if a mask cannot be one.
        ValueError: if a mask is not of its photo's size, or a label is in none of its masks.
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
            if not checked.is_file():  # nor by the process that was waited for
                sizes = photo_sizes(table, images, names)
                refuse_missing(table, masks.folder, "masks", missing, len(mask_names))
                covers = _read_masks(table, images, photos, photo, masks, number, sizes)
                with writing_to(checked.parent):
                    np.savez(draft / checked.name, sizes=sizes, covers=covers)
                    os.replace(draft / checked.name, checked)
    try:
        with np.load(checked) as found:
            return found["sizes"], found["covers"]
    except Exception as error:  # numpy and zipfile raise many kinds
        raise ValueError(f"{checked}: damaged ({error}): delete it") from error


def _read_labels(file: Path) -> npt.NDArray[np.generic]:
    with open_image(file) as image:
        form, values = image.format, np.asarray(image)
    if form == "JPEG":
        raise UnreadableImageError(f"{file}: is a JPEG, which blurs labels; PNG keeps them")
    if values.ndim != 2:
        raise UnreadableImageError(
            f"{file}: has colours, where a map of labels has one channel (mode L or P)"
        )
    return values


def _read_masks(
    table: Path,
    images: Path,
    photos: Strings,
    photo: Rows,
    masks: OwnMasks,
    number: Rows,
    sizes: Sizes,
) -> npt.NDArray[np.bool_]:
    """Which rows' masks mark anything; arguments and errors as of `check_files`."""
    order = np.argsort(masks.file, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(masks.file))[:-1]) if len(order) else []

    def check(rows: Rows) -> tuple[tuple[int, ...], list[bool]]:
        labels, size, any_pixel = masks.label[rows].tolist(), (0, 0), dict[int, bool]()
        for label, mask in marked(masks.folder / masks.names[masks.file[rows[0]]], labels):
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
            f"{table}: {len(wrong)} masks are not of the size of their photos, line {number[row]} "
            f"the first: photo {height} x {width} (height x width), mask {mask_height} x "
            f"{mask_width}" + exif_note(sizes[photo[row]], mask_sizes[row], *files)
        )
    named = masks.label != WHOLE
    unknown = np.setdiff1d(masks.label[named], masks.label[named & covers])
    if len(unknown):
        rows = np.flatnonzero(masks.label == unknown[0])
        raise ValueError(
            f"{table}: label {unknown[0]} (line {number[rows[0]]}) is in none of the {len(rows)} "
            "masks that should have it"
        )
    return covers
