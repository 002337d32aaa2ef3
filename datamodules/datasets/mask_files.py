"""Masks in picture files: binary ones and maps of labels."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import (
    Rows,
    Sizes,
    in_threads,
    photo_sizes,
    refuse_missing,
)
from datamodules.datasets.files import cache_folder
from datamodules.datasets.phrasecut_index import Strings

WHOLE = -1
"""in place of a label: the row means all that its mask marks"""
_VERSION = 1
"""counts up when `check_files` finds otherwise"""


@dataclass(frozen=True)
class MaskFiles:
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
        return marked(_read(file), int(self.label[row]), file)


def marked(values: npt.NDArray[np.generic], label: int, file: Path) -> Mask:
    """The pixels that a row means.

    Args:
        values: (H, W) or (H, W, channels), as stored; indices where there is a palette.
        label: those of this value, or `WHOLE`: those that are not black; of pictures with an alpha
            channel, those that are not transparent either.
        file: to name.

    Returns:
        (H, W) bool.

    Raises:
        UnreadableImageError: for labels in colour.
    """
    if label != WHOLE:
        if values.ndim != 2:
            raise UnreadableImageError(
                f"{file}: has colours, where a map of labels has one channel (mode L or P)"
            )
        return np.asarray(values == label)
    if values.ndim == 2:
        return np.asarray(values != 0)
    colours = values.shape[2] - (values.shape[2] in (2, 4))
    return np.asarray(values[..., :colours].any(2) & values[..., colours:].all(2))


def check_files(
    table: Path, images: Path, photos: Strings, photo: Rows, masks: MaskFiles, number: Rows
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
    stamps = [_stamp(table), *(_stamp(images / name) for name in names)]
    stamps += [_stamp(masks.folder / name) for name in mask_names]
    key = hashlib.sha256(json.dumps([_VERSION, stamps]).encode()).hexdigest()[:16]
    kept = cache_folder() / "own" / f"{table.stem}-{key}.npz"
    if kept.is_file():
        with np.load(kept) as found:
            return found["sizes"], found["covers"]
    sizes = photo_sizes(table, images, names)
    refuse_missing(table, masks.folder, "masks", missing, len(mask_names))
    mask_sizes, covers = _read_masks(table, masks)
    _refuse_other_sizes(table, sizes[photo], mask_sizes[masks.file], number)
    _refuse_unknown_labels(table, masks, covers, number)
    _keep(kept, sizes, covers)
    return sizes, covers


def _read(file: Path) -> npt.NDArray[np.generic]:
    try:
        with Image.open(file) as image:
            if image.format == "JPEG":
                raise UnreadableImageError(f"{file}: is a JPEG, which blurs masks; PNG keeps them")
            return np.asarray(image)
    except UnreadableImageError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"{file}: cannot be read as a mask ({error})") from error


def _stamp(file: Path) -> tuple[str, int, int]:
    """What changes when a file does; zeros where there is none."""
    try:
        stat = file.stat()
    except OSError:
        return os.path.abspath(file), 0, 0
    return os.path.abspath(file), stat.st_size, stat.st_mtime_ns


def _read_masks(table: Path, masks: MaskFiles) -> tuple[Sizes, npt.NDArray[np.bool_]]:
    """Height and width of the files, (files, 2), and which rows' masks mark anything."""
    order = np.argsort(masks.file, kind="stable")
    rows_of = np.split(order, np.cumsum(np.bincount(masks.file))[:-1]) if len(order) else []

    def check(rows: Rows) -> tuple[tuple[int, ...], list[bool]]:
        file = masks.folder / masks.names[masks.file[rows[0]]]
        values = _read(file)
        return values.shape[:2], [bool(marked(values, k, file).any()) for k in masks.label[rows]]

    covers = np.zeros(len(order), np.bool_)
    found = in_threads(check, rows_of, f"masks of {table}")
    for rows, (_, any_pixel) in zip(rows_of, found, strict=True):
        covers[rows] = any_pixel
    return np.array([size for size, _ in found], np.int32).reshape(-1, 2), covers


def _refuse_other_sizes(table: Path, photos: Sizes, masks: Sizes, number: Rows) -> None:
    wrong = np.flatnonzero((photos != masks).any(1))
    if len(wrong):
        row = wrong[0]
        (height, width), (mask_height, mask_width) = photos[row], masks[row]
        raise ValueError(
            f"{table}: {len(wrong)} masks are not of the size of their photos, line {number[row]} "
            f"the first: photo {height} x {width} (height x width), mask {mask_height} x "
            f"{mask_width}"
        )


def _refuse_unknown_labels(
    table: Path, masks: MaskFiles, covers: npt.NDArray[np.bool_], number: Rows
) -> None:
    named = masks.label != WHOLE
    unknown = np.setdiff1d(masks.label[named], masks.label[named & covers])
    if len(unknown):
        rows = np.flatnonzero(masks.label == unknown[0])
        raise ValueError(
            f"{table}: label {unknown[0]} (line {number[rows[0]]}) is in none of the {len(rows)} "
            "masks that should have it"
        )


def _keep(file: Path, sizes: Sizes, covers: npt.NDArray[np.bool_]) -> None:
    """Write what was found; the file appears whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}.npz")
    np.savez(draft, sizes=sizes, covers=covers)
    os.replace(draft, file)
