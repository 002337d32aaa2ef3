"""Phrases and masks from YOLO's segmentation format. Phrases are class names."""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask

from clipseg_pl.photo_files import ENDINGS
from datamodules.datasets.annotations import (
    EMPTY,
    Annotations,
    Positions,
    Split,
    class_phrase,
    photo_sizes,
    reject_shared,
    reject_unusable,
)
from datamodules.datasets.coco_masks import RunLengths, encode
from datamodules.datasets.files import DatasetNotFoundError, read_yaml
from datamodules.datasets.phrase_table import Strings
from datamodules.datasets.transforms import Points

log = logging.getLogger(__name__)

_KEYS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "valid", "validation"),
    "test": ("test",),
}
_OVERSHOOT = 0.01
"""Largest accepted distance of a coordinate from the photo, as a share of its side. Rounding makes
some tools write 1.0001. Ultralytics accepts the same."""
_LOST = "label files without a photo"
_CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])


class _Line(NamedTuple):
    where: str
    """file and line number"""
    phrase: str
    outline: Points
    """(points, 2) x and y, as shares of the photo's sides"""
    box: bool
    """whether the outline is that of a box"""


def read_yolo(file: Path, rectangles: bool) -> dict[Split, Annotations]:
    """Read a dataset in YOLO's segmentation format, with one task per photo and class.

    Each photo has a text file in the folder `labels` parallel to its folder `images`. Each line of
    it is an object: the number of its class and the corners of its polygon, as shares of width and
    height. A line of five numbers is a box: class, centre, width and height. A photo without a
    text file, or with an empty one, has no annotations.

    Args:
        file: data.yaml with the names of the classes (`names`) and the photos (`train`, and
            optionally `val` and `test`): a folder, a text file with their paths, or a list of
            these, below the folder `path`, if given.
        rectangles: whether boxes are filled as rectangles.

    Returns:
        Annotations of each split whose photos exist and differ from those of the training split.
        Splits for evaluation without any label file are left out. There is always a training split.

    Raises:
        DatasetNotFoundError: if the photos or all label files of the training split, or single
            photos are missing.
        ValueError: if the file or a line is invalid, there are boxes and `rectangles` is false, or
            a split has no usable annotation.
    """
    content = read_yaml(file)
    if not isinstance(content, Mapping):
        raise ValueError(f"{file}: expected names, train and val, not {type(content).__name__}")
    if "kpt_shape" in content:
        raise ValueError(
            f"{file}: describes key points (kpt_shape), not masks; use data of a segmentation "
            "project"
        )
    names = _class_names(file, content.get("names"))
    given: dict[Split, Any] = {
        split: next((content[key] for key in keys if content.get(key)), None)
        for split, keys in _KEYS.items()
    }
    if given["train"] is None:
        raise ValueError(f"{file}: train is missing; set it to the folder of the training photos")
    photos = {
        split: _find_photos(file, content.get("path"), split, value)
        for split, value in given.items()
        if value is not None
    }
    found = dict[Split, Annotations]()
    for split, own in photos.items():
        # Ultralytics requires `val`; datasets without validation photos repeat the training photos
        if own is not None and (split == "train" or own != photos["train"]):
            try:
                found[split] = _read_split(file, *own, names, rectangles)
            except _NoLabelsError as error:
                if split == "train":
                    raise
                log.warning("%s; the %s split is left out", error, split)
    return found


def _class_names(file: Path, names: object) -> dict[int, str]:
    """Return the phrase of each class number."""
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, Mapping) or not names:
        raise ValueError(f"{file}: names must be a list of class names, or a mapping to them")
    for number, name in names.items():
        if type(number) is not int or not isinstance(name, str) or not class_phrase(name):
            raise ValueError(
                f"{file}: names has {number!r}: {name!r}; numbers must be integers, and names "
                "strings (in quotes, if YAML reads them as another type)"
            )
    return {number: class_phrase(name) for number, name in names.items()}


def _find_photos(
    file: Path, base: object, split: Split, value: object
) -> tuple[Path, list[str]] | None:
    """Find the photos of a split; None if the split is not for training and its photos are missing.

    Returns:
        A folder, and the names of the photos relative to it.
    """
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in values) or not isinstance(base, str | None):
        raise ValueError(
            f"{file}: {split} must be a folder of photos, a text file with their paths, or a list "
            f"of these, not {value!r:.80}"
        )
    photos = set[Path]()
    for part in values:
        place = _find(file, base, part)
        if place.is_dir():
            photos.update(path for path in place.rglob("*") if path.suffix.lower() in ENDINGS)
        elif place.is_file() and place.suffix == ".txt":
            lines = filter(None, map(str.strip, place.read_text("utf-8-sig").splitlines()))
            photos.update(_find(file, base, line) for line in lines)
        else:
            kind = "file" if place.suffix == ".txt" else "folder"
            message = f"{file}: {split} is {part}, but the {kind} {place} does not exist"
            if split == "train":
                raise DatasetNotFoundError(f"{message}: correct {split}")
            log.warning("%s; the export has no %s split", message, split)
            return None
    folder = place if len(values) == 1 and place.is_dir() else file.parent
    names = sorted(Path(os.path.relpath(photo, folder)).as_posix() for photo in photos)
    if not names:
        raise DatasetNotFoundError(f"{file}: {place} contains no photos")
    return folder, names


def _find(file: Path, base: str | None, value: str) -> Path:
    """Find a folder, a text file or a photo; return the stated path if there is none.

    Exports name paths of the machine that wrote them. Roboflow writes `../train/images` and `<name
    of the export>/train/images` for the folder `train/images` beside the file, and CVAT writes
    `data/images/train/1.jpg` for the photo `images/train/1.jpg`.
    """
    parts = Path(value).parts
    stated = file.parent / Path(base or "").expanduser() / value
    up = value.startswith("..")
    # without the first folders, down to the last two parts
    below = [file.parent.joinpath(*parts[k:]) for k in range(up, max(len(parts) - 1, 1))]
    places = [*below, stated] if up else [stated, *below]
    return Path(os.path.normpath(next((place for place in places if place.exists()), stated)))


class _NoLabelsError(DatasetNotFoundError):
    """None of the photos of a split has a label file."""


def _read_split(
    file: Path, folder: Path, photos: list[str], names: Mapping[int, str], rectangles: bool
) -> Annotations:
    labels = [_label_file(folder / photo, file.parent) for photo in photos]
    reject_shared(photos, labels)
    lines = [list(_read_lines(label, names)) if label.is_file() else None for label in labels]
    if not any(of_photo is not None for of_photo in lines):
        raise _NoLabelsError(
            f"{file}: none of the {len(photos)} photos in {folder} has a label file; first: "
            f"{labels[0]} does not exist"
        )
    boxes = [line.where for of_photo in lines for line in of_photo or () if line.box]
    if boxes and not rectangles:
        raise ValueError(
            f"{file}: {len(boxes)} annotations have a box and no mask (first: {boxes[0]}): to fill "
            "the boxes, set `boxes: rectangles` in the config (--data.init_args.boxes rectangles), "
            "or download a segmentation project"
        )
    sizes = photo_sizes(file, folder, photos)
    phrase_of = Positions()
    rows, counts = list[tuple[int, int, int]](), list[bytes]()
    unknown = list[tuple[int, int]]()
    for index, of_photo in enumerate(lines):
        outlines = defaultdict[str, list[_Line]](list)
        for line in of_photo or ():
            outlines[line.phrase].append(line)
        height, width = sizes[index].tolist()
        for text, own in outlines.items():
            flat = [(line.outline * (width, height)).ravel() for line in own]
            union = coco_mask.merge(encode(flat, height, width, str(labels[index])))
            if coco_mask.area(union):
                rows.append((index, phrase_of[text], sum(line.box for line in own)))
                counts.append(union["counts"])
            else:
                unknown.append((index, phrase_of[text]))
    skipped = Counter({EMPTY: len(unknown), _LOST: _count_lost(labels)})
    usable = len(rows) + sum(not of_photo for of_photo in lines)
    photo, phrase, row_boxes = np.array(rows, np.int64).reshape(-1, 3).T.copy()
    return Annotations(
        file=labels[0].parent,
        folder=folder,
        photos=Strings.pack(photos),
        sizes=sizes,
        phrases=Strings.pack(list(phrase_of)),
        photo=photo,
        phrase=phrase,
        number=np.arange(1, len(rows) + 1),
        masks=RunLengths.pack(counts, sizes[photo]),
        skipped=reject_unusable(file, usable, skipped),
        row_boxes=row_boxes,
        unknown=np.array(unknown, np.int64).reshape(-1, 2),
        unused=tuple(name for name in names.values() if name not in phrase_of),
    )


def _count_lost(labels: Sequence[Path]) -> int:
    """Count the label files without a photo, in the folders of the other label files."""
    known = set(labels)
    return sum(
        path not in known and path.name != "classes.txt"
        for parent in {label.parent for label in labels}
        for path in parent.glob("*.txt")
    )


def _label_file(photo: Path, root: Path) -> Path:
    """Return the label file of a photo: the last folder `images` of its path becomes `labels`."""
    parts = list(Path(os.path.relpath(photo, root)).parts)
    folders = parts[:-1]
    if "images" in folders:
        parts[len(folders) - 1 - folders[::-1].index("images")] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _read_lines(label: Path, names: Mapping[int, str]) -> Iterator[_Line]:
    """Yield the objects of a label file.

    Raises:
        ValueError: if a line is malformed, or its class has no name.
    """
    try:
        lines = label.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{label}: not text ({error.reason})") from error
    for number, text in enumerate(lines, 1):
        if text.strip():
            where = f"{label}, line {number}"
            try:
                yield _Line(where, *_parse(text, names))
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error


def _parse(text: str, names: Mapping[int, str]) -> tuple[str, Points, bool]:
    """Return phrase, outline and whether it is a box, see `_Line`."""
    try:
        number, *numbers = map(float, text.split())
    except ValueError:
        raise ValueError(f"{text.strip()[:40]!r} is not a class and coordinates") from None
    if number not in names:
        raise ValueError(f"class {number:g} has no name in data.yaml")
    phrase, values = names[int(number)], np.array(numbers)
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"{len(values)} numbers after the class; a polygon has at least three pairs x y, and a "
            "box has four numbers"
        )
    if not ((values >= -_OVERSHOOT) & (values <= 1 + _OVERSHOOT)).all():
        raise ValueError(
            "coordinates are outside the photo; they must be shares of its sides, from 0 to 1"
        )
    if len(values) != 4:
        return phrase, values.reshape(-1, 2), False
    centre, half = values[:2], values[2:] / 2
    if (half <= 0).any():
        raise ValueError("the box has no area")
    return phrase, centre + half * _CORNERS, True
