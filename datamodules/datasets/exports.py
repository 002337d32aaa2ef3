"""Folders of downloaded exports, with a folder for each split."""

from collections.abc import Mapping
from pathlib import Path

from datamodules.datasets.annotations import Annotations, Split
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.files import DatasetNotFoundError

COCO_FILE = "_annotations.coco.json"
_FOLDERS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("valid", "val"),
    "test": ("test",),
}


def read_export(
    folder: Path, rectangles: bool, ignore_label: int | None
) -> dict[Split, Annotations]:
    """Read an export of Roboflow, or a folder written by hand with the same layout.

    The splits are the folders `train`, `valid` (or `val`) and `test`. Each contains photos and
    their annotations, `_annotations.coco.json`.

    Args:
        folder: the unzipped export.
        rectangles: whether annotations that have a box and no mask are filled as rectangles.
        ignore_label: value of label maps that marks pixels to ignore; None if there is none.

    Returns:
        Annotations of each split that the folder has. There is always a training split.

    Raises:
        DatasetNotFoundError: if the folder, its training split, annotations or photos are missing.
        ValueError: if the annotations are invalid.
    """
    splits = _split_folders(folder)
    files = {split: below / COCO_FILE for split, below in splits.items()}
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        raise DatasetNotFoundError(f"{missing[0]}: no such file; download the export again")
    return {split: read_coco(file, file.parent, rectangles) for split, file in files.items()}


def _split_folders(folder: Path) -> dict[Split, Path]:
    """Find the folder of each split.

    Raises:
        DatasetNotFoundError: if there is no training split.
        ValueError: if a split has two folders.
    """
    found: dict[Split, Path] = {}
    for split, names in _FOLDERS.items():
        present = [folder / name for name in names if (folder / name).is_dir()]
        if len(present) > 1:
            raise ValueError(f"{folder} has the folders valid and val: remove one of them")
        if present:
            found[split] = present[0]
    if "train" not in found:
        raise DatasetNotFoundError(
            f"{folder}: no folder train; an export has the folders train, valid and test"
        )
    return found
