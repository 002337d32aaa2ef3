"""Folders of downloaded exports, with a folder for each split."""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import numpy as np

from clipseg_pl.photo_files import ENDINGS
from datamodules.datasets.annotations import (
    Annotations,
    Split,
    class_phrase,
    reject_shared,
    reject_unusable,
)
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.files import DatasetNotFoundError, read_yaml, stays_below
from datamodules.datasets.own_masks import OwnMasks, check_files, valid_pixels
from datamodules.datasets.phrase_table import Rows, Strings
from datamodules.datasets.yolo import read_yolo

_COCO, _CLASSES, _MASK = "_annotations.coco.json", "_classes.csv", "_mask.png"
_BACKGROUND = {"background", "unlabeled", "unlabelled", "none", "ignore", "void"}
"""names of the pixel value 0, which is no class"""
_COLUMNS = ["pixel value", "class"]
_FOLDERS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("valid", "val"),
    "test": ("test",),
}
_OTHER_FORMATS = {
    "_annotations.createml.json": "CreateML",
    "_annotations.csv": "a CSV of boxes",
    _CLASSES: "a CSV of classes without masks",
    "*.tfrecord": "TFRecord",
    "annotations.xml": "CVAT for images",
    "*.xml": "Pascal VOC",
    "*.jsonl": "JSONL",
    "*.zip": "a zip file",
}
"""pattern of a file in the folder or one of its folders -> name of the format"""
_PARTLY = "photos without a class that have ignored pixels"


def read_export(
    folder: Path, rectangles: bool, ignore_label: int | None
) -> dict[Split, Annotations]:
    """Read a Roboflow export, or a folder written by hand with the same layout.

    The splits are the folders `train`, `valid` (or `val`) and `test`. The folder of one split is
    read as a training split. The format follows from the files:

    - COCO Segmentation: `_annotations.coco.json` beside the photos of each split, see `read_coco`.
    - YOLO: `data.yaml`, or another YAML file with `names` and `train`, see `read_yolo`.
    - Semantic Segmentation Masks: in each split, `_classes.csv` with the columns `Pixel Value` and
      `Class`, and a label map `<stem>_mask.png` beside each photo. Value 0 is the background.

    Args:
        folder: the unzipped export.
        rectangles: whether annotations that have a box and no mask are filled as rectangles.
        ignore_label: value of label maps that marks pixels to ignore, unless it has a class name;
            None if there is none.

    Returns:
        Annotations of each split that the folder has. There is always a training split.

    Raises:
        DatasetNotFoundError: if the training split, annotations or photos are missing.
        UnreadableImageError: if a label map is unreadable or has colours.
        ValueError: if the folder has another format, or the annotations are invalid.
    """
    if folder.suffix.lower() == ".zip":
        raise ValueError(f"{folder} is a zip file: unzip it first")
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return read_yolo(folder / name, rectangles)
    splits = _split_folders(folder) or {"train": folder}
    for name in (_COCO, _CLASSES):
        files = {split: below / name for split, below in splits.items()}
        present = [file for file in files.values() if file.is_file()]
        if not present or (name == _CLASSES and _read_rows(present[0])[0] != _COLUMNS):
            continue
        missing = [file for file in files.values() if file not in present]
        if missing:
            where = missing[0].parent.name
            raise DatasetNotFoundError(
                f"{missing[0]} is missing: add it, or remove the folder {where}"
            )
        if "train" not in files:
            others = ", ".join(below.name for below in splits.values())
            raise DatasetNotFoundError(
                f"{folder}: the folder train is missing; found only {others}"
            )
        return {
            split: _read_coco(file, rectangles)
            if name == _COCO
            else _read_label_maps(file, ignore_label)
            for split, file in files.items()
        }
    described = [
        file
        for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
        if isinstance(content := read_yaml(file), Mapping) and {"names", "train"} <= content.keys()
    ]
    if len(described) == 1:
        return read_yolo(described[0], rectangles)
    _reject_format(folder)


def _read_coco(file: Path, rectangles: bool) -> Annotations:
    """Read the annotations of a split.

    Raises:
        ValueError: as `read_coco`, or if a photo is outside of the split's folder.
    """
    annotations = read_coco(file, file.parent, rectangles)
    for name in annotations.photo_names():
        if not stays_below(name):
            raise ValueError(f"{file}: the photo {name} is outside of the export; correct its path")
    return annotations


def _split_folders(folder: Path) -> dict[Split, Path]:
    """Find the folder of each split.

    Raises:
        ValueError: if a split has two folders.
    """
    found: dict[Split, Path] = {}
    for split, names in _FOLDERS.items():
        present = [folder / name for name in names if (folder / name).is_dir()]
        if len(present) > 1:
            raise ValueError(f"{folder} has the folders valid and val: remove one of them")
        if present:
            found[split] = present[0]
    return found


def _reject_format(folder: Path) -> NoReturn:
    """Raise an error that names the format found and the formats that can be read."""
    for file in sorted(folder.glob("annotations/*.json")):
        raise ValueError(
            f"{folder}: found a COCO JSON file; set table to {file} and images to the folder of "
            "its photos"
        )
    found = "no annotations"
    for pattern, name in _OTHER_FORMATS.items():
        files = [*folder.glob(pattern), *folder.glob(f"*/{pattern}")]
        if files:
            if pattern == "*.zip":
                raise ValueError(f"{folder} contains {files[0].name}: unzip it first")
            found = f"{name} ({files[0].relative_to(folder)})"
            break
    else:
        if any(folder.glob("*/labels/*.txt")) or any(folder.glob("labels/*/*.txt")):
            found = "YOLO labels without a data.yaml"
        elif any(folder.glob("labels/*.txt")):
            found = "YOLO labels without a data.yaml, as Label Studio writes them"
    raise ValueError(
        f"{folder}: found {found}; download the data in the format COCO Segmentation, YOLO (of a "
        "segmentation project) or Semantic Segmentation Masks, and unzip it"
    )


def _read_rows(file: Path) -> list[list[str]]:
    """Read the cells of a CSV file, without blank rows; the header is in lower case."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{file}: not a CSV in UTF-8 ({error})") from error
    return [[cell.lower() for cell in row] for row in rows[:1] or [[]]] + rows[1:]


def _class_values(file: Path) -> dict[int, str]:
    """Return the phrase of each pixel value except the background, 0."""
    phrases: dict[int, str] = {}
    for row in _read_rows(file)[1:]:
        value, name = row[0], class_phrase(",".join(row[1:]))
        if not value.isdecimal() or not name:
            raise ValueError(f"{file}: {','.join(row)!r:.80} is not a pixel value and a class")
        if int(value) in phrases:
            raise ValueError(f"{file}: pixel value {value} has two classes")
        if name in phrases.values():
            raise ValueError(f"{file}: two pixel values have the class {name!r}; rename one")
        phrases[int(value)] = name
    if (name := phrases.pop(0, "background")) not in _BACKGROUND:
        raise ValueError(
            f"{file}: pixel value 0 has the class {name!r}, but 0 is the background; renumber the "
            "classes, or name it background"
        )
    if not phrases:
        raise ValueError(f"{file}: no class besides the background (pixel value 0)")
    return phrases


def _read_label_maps(file: Path, ignore_label: int | None) -> Annotations:
    """Read the photos and label maps beside `_classes.csv`, with one task per photo and class.

    Photos without any class are kept without a task, unless some of their pixels are ignored.

    Args:
        file: table of the pixel values and their classes.
        ignore_label: value of pixels to ignore, unless it has a class.

    Raises:
        DatasetNotFoundError: if there are no photos, or label maps are missing.
        UnreadableImageError: if a label map is unreadable or has colours.
        ValueError: if a pixel value has no class, the size of a label map differs from its
            photo's, or no photo has a class.
    """
    folder, phrases = file.parent, _class_values(file)
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in ENDINGS and not path.name.endswith(_MASK)
    )
    if not names:
        raise DatasetNotFoundError(f"{folder}: contains no photos")
    maps = [folder / f"{Path(name).stem}{_MASK}" for name in names]
    reject_shared(names, maps)
    values = np.array(list(phrases), np.int64)
    photo, phrase = (index.ravel() for index in np.indices((len(names), len(values))))
    map_names = Strings.pack([path.name for path in maps])
    every = OwnMasks(folder, map_names, photo, values[phrase])
    sizes, covers, stored = check_files(file, folder, Strings.pack(names), photo, every)
    ignored = ignore_label if ignore_label not in phrases else None
    _reject_unnamed(file, maps, stored, [0, *phrases, *([] if ignored is None else [ignored])])
    masks = OwnMasks(folder, map_names, photo[covers], values[phrase[covers]])
    valid = valid_pixels(masks, stored, ignored)
    partly = np.isin(np.arange(len(names)), stored[stored[:, 1] == ignored, 0])
    partly[masks.file] = False
    skipped = reject_unusable(file, int((~partly).sum()), Counter({_PARTLY: int(partly.sum())}))
    position = np.cumsum(~partly) - 1
    used, phrase_of_row = np.unique(phrase[covers], return_inverse=True)
    texts = list(phrases.values())
    return Annotations(
        file=file,
        folder=folder,
        photos=Strings.pack([name for name, left in zip(names, partly, strict=True) if not left]),
        sizes=sizes[~partly],
        phrases=Strings.pack([texts[index] for index in used.tolist()]),
        photo=position[masks.file],
        phrase=phrase_of_row,
        number=np.arange(1, len(masks.file) + 1),
        masks=masks,
        skipped=skipped,
        valid=valid,
        unused=tuple(text for index, text in enumerate(texts) if index not in used),
    )


def _reject_unnamed(file: Path, maps: list[Path], stored: Rows, known: list[int]) -> None:
    unnamed = np.setdiff1d(stored[:, 1], known)
    if len(unnamed):
        of_value = stored[stored[:, 1] == unnamed[0], 0]
        raise ValueError(
            f"{file}: pixel value {unnamed[0]} has no class, but occurs in {len(of_value)} label "
            f"maps; first: {maps[of_value.min()]}; add it to the file, or ignore it with "
            "ignore_label"
        )
