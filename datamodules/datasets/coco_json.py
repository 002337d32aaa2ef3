"""Phrases and masks from COCO's JSON format. Phrases are captions or names of categories."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from clipseg_pl.prompts.masks import exif_note
from clipseg_pl.prompts.text import normalise_phrase
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import (
    EMPTY,
    NO_PHRASE,
    Annotations,
    Positions,
    Sizes,
    photo_sizes,
    reject_unusable,
)
from datamodules.datasets.phrase_table import Rows, Strings
from datamodules.datasets.transforms import FARTHEST, is_size

Id = int | str
_Id = TypeVar("_Id", int, str, Id)
_Entry = TypeVar("_Entry")
Encoded = dict[str, Any]
"""compressed run-length encoding (RLE) of pycocotools"""
Flat = npt.NDArray[np.float64]
"""x, y, x, y, ... in pixels"""

_NO_MASK = "without a segmentation"
_PHRASES = ("phrase", "caption")
_OTHER_KEYS = ("file_name", "coco_url", "counts")
"""an object with one of these keys is an image or an RLE, even if it has an image_id"""


class _Photo(NamedTuple):
    name: str
    height: int
    width: int


class _Annotation(NamedTuple):
    id: object
    image: object
    category: object
    phrase: object
    """the annotation's own phrase, or None"""
    segmentation: object
    """polygons as arrays; RLE as stored in the file"""


def read_coco(file: Path, images: Path) -> Annotations:
    """Read annotations in COCO's format, with one task per photo and phrase.

    The phrase of an annotation is its `phrase`, else its `caption`, else the name of its category
    with underscores replaced by blanks. All annotations of a photo with the same phrase are merged
    into one mask, including crowds (`iscrowd`). LVIS files, which give `coco_url` instead of
    `file_name`, are supported.

    Args:
        file: JSON with `images` and `annotations`, and with `categories` unless all annotations
            have phrases.
        images: folder that `file_name` is relative to.

    Raises:
        DatasetNotFoundError: if photos that have annotations are missing.
        ValueError: if the file is not in COCO's format, an id or a photo is duplicated, the size
            of a photo differs from its entry, or no annotation is usable.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            content = json.load(stream, object_hook=_compact)
        regions, skipped = _collect(content)
    except ValueError as error:
        raise ValueError(f"{file}: invalid COCO annotations ({error})") from error
    tasks: dict[tuple[_Photo, str], Encoded] = {}
    for key, parts in regions.items():
        union = coco_mask.merge(parts) if parts else None
        if union and coco_mask.area(union):
            tasks[key] = union
        else:
            skipped[EMPTY] += 1
    skipped_counts = reject_unusable(file, len(tasks), skipped)
    photo_of, phrase_of = Positions(), Positions()
    photo = np.array([photo_of[entry.name] for entry, _ in tasks], np.int64)
    phrase = np.array([phrase_of[text] for _, text in tasks], np.int64)
    sizes = photo_sizes(file, images, list(photo_of))
    _reject_size_mismatches(file, images, {entry for entry, _ in tasks}, photo_of, sizes)
    counts = [region["counts"] for region in tasks.values()]
    return Annotations(
        file=file,
        folder=images,
        photos=Strings.pack(list(photo_of)),
        sizes=sizes,
        phrases=Strings.pack(list(phrase_of)),
        photo=photo,
        phrase=phrase,
        number=np.arange(1, len(photo) + 1),
        masks=RunLengths(
            np.frombuffer(b"".join(counts), np.uint8),
            np.cumsum([0, *map(len, counts)], dtype=np.int64),
            sizes[photo],
        ),
        skipped=skipped_counts,
    )


@dataclass(frozen=True)
class RunLengths:
    """Function that takes a row and decodes its mask from pycocotools' compressed RLE.

    Args:
        text: (total,) uint8, the RLE strings of all rows, concatenated.
        offsets: (rows + 1,) int64, start of each row in `text`.
        sizes: (rows, 2) int32, height and width.
    """

    text: npt.NDArray[np.uint8]
    offsets: Rows
    sizes: Sizes

    def __call__(self, row: int) -> Mask:
        """Decode the mask of a row, (H, W) bool."""
        counts = self.text[self.offsets[row] : self.offsets[row + 1]].tobytes()
        encoded = {"size": self.sizes[row].tolist(), "counts": counts}
        return np.asarray(coco_mask.decode(encoded), np.bool_)


def _compact(entry: dict[str, Any]) -> object:
    """Convert annotations to arrays while parsing; Python lists take four times the memory."""
    if "image_id" not in entry or not entry.keys().isdisjoint(_OTHER_KEYS):
        return entry
    return _read_annotation(entry)


def _read_annotation(entry: Mapping[str, Any]) -> _Annotation:
    segmentation, number = entry.get("segmentation"), entry.get("id")
    return _Annotation(
        number,
        entry["image_id"],
        entry.get("category_id"),
        next((entry[key] for key in _PHRASES if entry.get(key) not in (None, "")), None),
        read_polygons(segmentation, f"annotation {number}")
        if isinstance(segmentation, list)
        else segmentation,
    )


def _collect(content: object) -> tuple[dict[tuple[_Photo, str], list[Encoded]], Counter[str]]:
    """Return the regions of each photo and phrase, and the number of skipped annotations."""
    if not isinstance(content, Mapping):
        raise ValueError("expected an object with images and annotations")
    names = by_id(_categories(content), "categories")
    photos = by_id(_photos(content), "images", files=True)
    skipped: Counter[str] = Counter()
    regions: dict[tuple[_Photo, str], list[Encoded]] = {}
    for place, annotation in enumerate(_list(content, "annotations"), 1):
        if isinstance(annotation, Mapping) and "image_id" in annotation:
            annotation = _read_annotation(annotation)
        if not isinstance(annotation, _Annotation):
            raise ValueError(f"entry {place} of annotations has no image_id")
        where = f"annotation {place if annotation.id is None else annotation.id}"
        phrase = annotation.phrase
        try:
            photo = look_up(photos, annotation.image, "images", "image_id")
            if phrase is None:
                name = look_up(names, annotation.category, "categories", "category_id")
                phrase = name.replace("_", " ")
        except ValueError as error:
            raise ValueError(f"{where} {error}") from error
        if not isinstance(phrase, str):
            raise ValueError(f"{where}: phrase {phrase!r:.40} is not a string")
        text = normalise_phrase(phrase)
        if not text:
            skipped[NO_PHRASE] += 1
        elif annotation.segmentation is None:
            skipped[_NO_MASK] += 1
        else:
            encoded = encode(annotation.segmentation, photo.height, photo.width, where)
            regions.setdefault((photo, text), []).extend(encoded)
    return regions, skipped


def _list(content: Mapping[str, Any], key: str) -> list[object]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise ValueError(f"no list of {key}")
    return entries


def _entries(
    content: Mapping[str, Any], key: str, needed: bool = True
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a list, each with a description for messages."""
    if not needed and content.get(key) is None:
        return
    for place, entry in enumerate(_list(content, key), 1):
        if not isinstance(entry, Mapping):
            raise ValueError(f"entry {place} of {key} is not an object")
        yield f"entry {place} of {key} (id {entry.get('id')})", entry


def _categories(content: Mapping[str, Any]) -> Iterator[tuple[Id, str, str]]:
    for where, entry in _entries(content, "categories", needed=False):
        yield _id(entry, where), (name := _text(entry, "name", where)), name


def _photos(content: Mapping[str, Any]) -> Iterator[tuple[Id, str, _Photo]]:
    for where, entry in _entries(content, "images"):
        number, photo = _id(entry, where), _read_photo(entry, where)
        yield number, photo.name, photo


def _id(entry: Mapping[str, Any], where: str) -> Id:
    value = read_id(entry.get("id"))
    if value is None:
        raise ValueError(f"{where}: id is missing or neither an integer nor a string")
    return value


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{where}: {name} is missing or not a string")
    return value


def _read_photo(entry: Mapping[str, Any], where: str) -> _Photo:
    size = entry.get("height"), entry.get("width")
    if not is_size(size):
        raise ValueError(f"{where}: height or width is missing or not a positive integer")
    if "coco_url" in entry and not entry.get("file_name"):
        name = "/".join(_text(entry, "coco_url", where).split("/")[-2:])
    else:
        name = _text(entry, "file_name", where)
    if len(name.splitlines()) != 1:
        raise ValueError(f"{where}: invalid file name {name!r:.100}")
    return _Photo(os.path.normpath(name), *size)


def _reject_size_mismatches(
    file: Path, images: Path, annotated: set[_Photo], position: Mapping[str, int], sizes: Sizes
) -> None:
    wrong = sorted(p for p in annotated if tuple(sizes[position[p.name]]) != p[1:])
    if wrong:
        name, *expected = wrong[0]
        found = sizes[position[name]].tolist()
        raise ValueError(
            f"{file}: {len(wrong)} photos differ from their annotated size; first: {name} is "
            f"{found[0]} x {found[1]} (height x width), annotated as {expected[0]} x {expected[1]}"
            + exif_note(found, expected, images / name)
        )


def read_id(value: object) -> Id | None:
    """Read an id from JSON; None if the value is neither an integer nor a string.

    Floats without a fraction are accepted as integers, since pandas writes 1.0 for 1.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def by_id(
    entries: Iterable[tuple[_Id, str, _Entry]], key: str, files: bool = False
) -> dict[_Id, _Entry]:
    """Index entries by id.

    Args:
        entries: (id, name, entry) of each.
        key: name of the list, for messages.
        files: whether the names are file names, which must be unique.

    Raises:
        ValueError: if two entries have the same id, or with `files` the same name.
    """
    found: dict[_Id, _Entry] = {}
    names: dict[_Id, str] = {}
    for number, name, entry in entries:
        if number in found:
            raise ValueError(
                f"{key} has duplicate id {number!r}, for {names[number]!r} and for {name!r}; ids "
                "must be unique"
            )
        found[number], names[number] = entry, name
    number_of: dict[str, _Id] = {}
    for number, name in names.items():
        if files and number_of.setdefault(name, number) != number:
            raise ValueError(
                f"{key} {number_of[name]!r} and {number!r} are both the file {name}; list each "
                "photo once, and different photos under different names"
            )
    return found


def look_up(entries: Mapping[Id, _Entry], value: object, key: str, field: str) -> _Entry:
    """Return the entry that an annotation refers to.

    Args:
        entries: entries by id.
        value: id in the annotation.
        key: name of the list of entries, for messages.
        field: name of the annotation's field, for messages.

    Raises:
        ValueError: if no entry has this id. The message points out a string id that would match
            an integer id, or the reverse.
    """
    number = read_id(value)
    if number is not None and number in entries:
        return entries[number]
    alike = [listed for listed in entries if str(listed) == str(number)]
    if alike:
        raise ValueError(
            f"has {field} {_typed(number)}, but {key} has id {_typed(alike[0])}; write both as "
            "numbers"
        )
    raise ValueError(f"has {field} {value!r:.40}, which is not an id in {key}")


def _typed(number: object) -> str:
    return f"{number!r} ({'string' if isinstance(number, str) else 'number'})"


def read_polygons(values: Sequence[object], where: str) -> list[Flat]:
    """Convert polygons to arrays and check them.

    Args:
        values: lists of coordinates from JSON.
        where: name of the annotation, for messages.

    Raises:
        ValueError: if a polygon is malformed.
    """
    try:
        polygons = [np.array(flat, np.float64) for flat in values]
    except (ValueError, TypeError, OverflowError):
        polygons = [np.full(1, np.nan)]
    for flat in polygons:
        if flat.ndim != 1 or len(flat) % 2 or not (np.abs(flat) < FARTHEST).all():
            raise ValueError(f"{where}: malformed polygons")
    return polygons


def encode(segmentation: object, height: int, width: int, where: str) -> list[Encoded]:
    """Convert polygons or RLE, compressed or not, to compressed RLE.

    Args:
        segmentation: polygons from `read_polygons`; or RLE {"size": [height, width], "counts":
            ...} with counts as a list of numbers or as COCO's compressed string.
        height: height of the photo in pixels.
        width: width of the photo in pixels.
        where: name of the annotation, for messages.

    Returns:
        One RLE per polygon of at least three points, or the RLE of `segmentation`. The mask is
        their union.

    Raises:
        ValueError: if the segmentation is malformed or not of the photo's size.
    """
    if isinstance(segmentation, list):
        flat = [polygon for polygon in segmentation if len(polygon) >= 6]
        encoded: list[Encoded] = coco_mask.frPyObjects(flat, height, width) if flat else []
        return encoded
    if not isinstance(segmentation, Mapping) or segmentation.get("size") != [height, width]:
        raise ValueError(
            f"{where}: segmentation is neither a list of polygons nor a run-length encoding of "
            f"size {height} x {width}"
        )
    counts = segmentation.get("counts")
    try:
        lengths: Any = _lengths(counts) if isinstance(counts, str) else counts
        if sum(lengths) != height * width:
            raise ValueError("wrong number of pixels")
        return [coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{where}: run lengths do not add up to {height} x {width} pixels"
        ) from error


def _lengths(text: str) -> list[int]:
    """Decode the run lengths of COCO's compressed string.

    pycocotools accepts truncated strings. The sum of the decoded lengths reveals them.

    Each character of the string stores five bits of a number, the lowest bits first. The bit of
    value 32 marks that another character follows. The bit of value 16 in the last character marks
    a negative number. From the fourth number on, the string stores the difference from the number
    two places before.
    """
    lengths: list[int] = []
    value = shift = 0
    for code in text.encode():
        value |= (code - 48 & 31) << shift
        shift += 5
        if not code - 48 & 32:
            value -= (code - 48 & 16) << shift - 4
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
