"""COCO's annotation format: categories or captions as phrases, their instances as one mask."""

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
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import (
    EMPTY,
    NO_PHRASE,
    Annotations,
    Positions,
    Sizes,
    photo_sizes,
    refuse_unusable,
    words,
)
from datamodules.datasets.phrase_table import Rows, Strings
from datamodules.datasets.transforms import FARTHEST, is_size

Id = int | str
_Id = TypeVar("_Id", int, str, Id)
_Entry = TypeVar("_Entry")
Encoded = dict[str, Any]
"""pycocotools' compressed run lengths"""
Flat = npt.NDArray[np.float64]
"""x, y, x, y, ... in pixels"""

_NO_MASK = "without a segmentation"
_PHRASES = ("phrase", "caption")
_NO_ANNOTATIONS = ("file_name", "coco_url", "counts")
"""of photos and run lengths, should they have an image_id too"""


class _Photo(NamedTuple):
    name: str
    height: int
    width: int


class _Annotation(NamedTuple):
    id: object
    image: object
    category: object
    phrase: object
    """its own, where it has one"""
    segmentation: object
    """polygons as arrays; run lengths as they stand in the file"""


def read_coco(file: Path, images: Path) -> Annotations:
    """Read annotations in COCO's format; one task for each phrase about each photo.

    The phrase is an annotation's own (`phrase`, else `caption`), or the name of its category with
    blanks for underscores. All annotations of a phrase in a photo, crowds (`iscrowd`) too, make one
    mask. LVIS's files, which name photos by `coco_url`, are read as well.

    Args:
        file: json with `images`, `annotations` and, unless all of these have phrases, `categories`.
        images: folder that `file_name` starts from.

    Raises:
        DatasetNotFoundError: if photos that have annotations are missing.
        ValueError: if the file is not in COCO's format, lists an id or a photo twice, a photo is
            not of the size that it says, or no annotation can be used.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            content = json.load(stream, object_hook=_compact)
        regions, skipped = _collect(content)
    except ValueError as error:
        raise ValueError(f"{file}: not annotations in COCO's format ({error})") from error
    tasks: dict[tuple[_Photo, str], Encoded] = {}
    for key, parts in regions.items():
        united = coco_mask.merge(parts) if parts else None
        if united and coco_mask.area(united):
            tasks[key] = united
        else:
            skipped[EMPTY] += 1
    left_out = refuse_unusable(file, len(tasks), skipped)
    photo_of, phrase_of = Positions(), Positions()
    photo = np.array([photo_of[of.name] for of, _ in tasks], np.int64)
    phrase = np.array([phrase_of[text] for _, text in tasks], np.int64)
    sizes = photo_sizes(file, images, list(photo_of))
    _refuse_other_sizes(file, images, {photo for photo, _ in tasks}, photo_of, sizes)
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
        skipped=left_out,
    )


@dataclass(frozen=True)
class RunLengths:
    """Row to mask: pycocotools' compressed run lengths, end to end.

    Args:
        text: (total,) uint8.
        offsets: (rows + 1,) int64.
        sizes: (rows, 2) int32, height and width.
    """

    text: npt.NDArray[np.uint8]
    offsets: Rows
    sizes: Sizes

    def __call__(self, row: int) -> Mask:
        """Decode a row's mask, (H, W) bool."""
        counts = self.text[self.offsets[row] : self.offsets[row + 1]].tobytes()
        encoded = {"size": self.sizes[row].tolist(), "counts": counts}
        return np.asarray(coco_mask.decode(encoded), np.bool_)


def _compact(entry: dict[str, Any]) -> object:
    """Turn annotations into arrays while json is read; lists of numbers are four times larger."""
    if "image_id" not in entry or not entry.keys().isdisjoint(_NO_ANNOTATIONS):
        return entry
    return _read_annotation(entry)


def _read_annotation(entry: Mapping[str, Any]) -> _Annotation:
    given, name = entry.get("segmentation"), entry.get("id")
    return _Annotation(
        name,
        entry["image_id"],
        entry.get("category_id"),
        next((entry[key] for key in _PHRASES if entry.get(key) not in (None, "")), None),
        polygons_of(given, f"annotation {name}") if isinstance(given, list) else given,
    )


def _collect(content: object) -> tuple[dict[tuple[_Photo, str], list[Encoded]], Counter[str]]:
    """The regions of each photo and phrase, and what is left out."""
    if not isinstance(content, Mapping):
        raise ValueError("it is no object with images and annotations")
    names = by_id(_categories(content), "categories")
    photos = by_id(_photos(content), "images", files=True)
    skipped: Counter[str] = Counter()
    regions: dict[tuple[_Photo, str], list[Encoded]] = {}
    for place, annotation in enumerate(_list(content, "annotations"), 1):
        if isinstance(annotation, Mapping) and "image_id" in annotation:
            annotation = _read_annotation(annotation)
        if not isinstance(annotation, _Annotation):
            raise ValueError(f"entry {place} of annotations is none: it has no image_id")
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
            raise ValueError(f"{where} has a phrase that is no text")
        if not words(phrase):
            skipped[NO_PHRASE] += 1
        elif annotation.segmentation is None:
            skipped[_NO_MASK] += 1
        else:
            encoded = encode(annotation.segmentation, photo.height, photo.width, where)
            regions.setdefault((photo, words(phrase)), []).extend(encoded)
    return regions, skipped


def _list(content: Mapping[str, Any], key: str) -> list[object]:
    given = content.get(key)
    if not isinstance(given, list):
        raise ValueError(f"it has no list of {key}")
    return given


def _entries(
    content: Mapping[str, Any], key: str, needed: bool = True
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of a list, and how messages call them."""
    if not needed and content.get(key) is None:
        return
    for place, entry in enumerate(_list(content, key), 1):
        if not isinstance(entry, Mapping):
            raise ValueError(f"entry {place} of {key} is none")
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
        raise ValueError(f"{where} has no id that is a whole number or text")
    return value


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{where} has no {name} that is text")
    return value


def _read_photo(entry: Mapping[str, Any], where: str) -> _Photo:
    size = entry.get("height"), entry.get("width")
    if not is_size(size):
        raise ValueError(f"{where} has no height and width of a photo")
    if "coco_url" in entry and not entry.get("file_name"):
        name = "/".join(_text(entry, "coco_url", where).split("/")[-2:])
    else:
        name = _text(entry, "file_name", where)
    if len(name.splitlines()) != 1:
        raise ValueError(f"{where} has the name {name!r:.100}")
    return _Photo(os.path.normpath(name), *size)


def _refuse_other_sizes(
    file: Path, images: Path, annotated: set[_Photo], position: Mapping[str, int], sizes: Sizes
) -> None:
    wrong = sorted(p for p in annotated if tuple(sizes[position[p.name]]) != p[1:])
    if wrong:
        name, *given = wrong[0]
        found = sizes[position[name]].tolist()
        raise ValueError(
            f"{file}: {len(wrong)} photos are not of the size annotated, {name} the first: it is "
            f"{found[0]} x {found[1]} (height x width), annotated as {given[0]} x {given[1]}"
            + exif_note(found, given, images / name)
        )


def read_id(given: object) -> Id | None:
    """Read an id from JSON; None if the value is neither a whole number nor text.

    Whole floats are taken as integers: pandas writes 1.0 for 1.
    """
    if isinstance(given, float) and given.is_integer():
        return int(given)
    return given if isinstance(given, int | str) and not isinstance(given, bool) else None


def by_id(
    entries: Iterable[tuple[_Id, str, _Entry]], key: str, files: bool = False
) -> dict[_Id, _Entry]:
    """Entries by their ids.

    Args:
        entries: id, name and entry of each.
        key: name of the list.
        files: whether the names are those of files, of which each may come once.

    Raises:
        ValueError: if two entries have the same id, with both names; or name the same file.
    """
    found: dict[_Id, _Entry] = {}
    names: dict[_Id, str] = {}
    for number, name, entry in entries:
        if number in found:
            raise ValueError(
                f"{key} has id {number!r} twice, for {names[number]!r} and for {name!r}: "
                "every entry needs an id of its own"
            )
        found[number], names[number] = entry, name
    number_of: dict[str, _Id] = {}
    for number, name in names.items():
        if files and number_of.setdefault(name, number) != number:
            raise ValueError(
                f"{key} {number_of[name]!r} and {number!r} are both the file {name}: list a photo "
                "once, and different photos under different names"
            )
    return found


def look_up(entries: Mapping[Id, _Entry], given: object, key: str, field: str) -> _Entry:
    """The entry that an annotation is about.

    Args:
        entries: by id.
        given: the id that the annotation names.
        key: name of the list of entries.
        field: where the annotation has the id.

    Raises:
        ValueError: if there is none; if the id is text there and a number here, it says so.
    """
    number = read_id(given)
    if number is not None and number in entries:
        return entries[number]
    alike = [listed for listed in entries if str(listed) == str(number)]
    if alike:
        raise ValueError(
            f"has {field} {_typed(number)}, but {key} has id {_typed(alike[0])}: their types "
            "differ, write both as numbers"
        )
    raise ValueError(f"has {field} {given!r:.40}, which is not listed in {key}")


def _typed(number: object) -> str:
    return f"{number!r} ({'text' if isinstance(number, str) else 'a number'})"


def polygons_of(given: Sequence[object], where: str) -> list[Flat]:
    """Check polygons.

    Args:
        given: lists of coordinates, as read from json.
        where: what they belong to.

    Raises:
        ValueError: naming it.
    """
    try:
        polygons = [np.array(flat, np.float64) for flat in given]
    except (ValueError, TypeError, OverflowError):
        polygons = [np.full(1, np.nan)]
    for flat in polygons:
        if flat.ndim != 1 or len(flat) % 2 or not (np.abs(flat) < FARTHEST).all():
            raise ValueError(f"{where} has malformed polygons")
    return polygons


def encode(given: object, height: int, width: int, where: str) -> list[Encoded]:
    """Bring polygons or run lengths of either kind to compressed run lengths.

    Args:
        given: checked polygons; or {"size": [height, width], "counts": ...}, the counts as a list
            of numbers or as COCO's text.
        height: of the photo.
        width: of the photo.
        where: what it belongs to.

    Returns:
        One for each polygon of three points or more, or the one given; the mask is their union.

    Raises:
        ValueError: naming what it belongs to.
    """
    if isinstance(given, list):
        flat = [polygon for polygon in given if len(polygon) >= 6]
        encoded: list[Encoded] = coco_mask.frPyObjects(flat, height, width) if flat else []
        return encoded
    if not isinstance(given, Mapping) or given.get("size") != [height, width]:
        raise ValueError(
            f"{where} has a segmentation that is neither polygons nor run lengths of {height} x "
            f"{width} pixels"
        )
    counts = given.get("counts")
    try:
        lengths: Any = _lengths(counts) if isinstance(counts, str) else counts
        if sum(lengths) != height * width:
            raise ValueError("another number of pixels")
        return [coco_mask.frPyObjects({"size": [height, width], "counts": lengths}, height, width)]
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"{where} has run lengths that do not add up to {height} x {width} pixels"
        ) from error


def _lengths(text: str) -> list[int]:
    """The run lengths in COCO's text; pycocotools does not notice where they end early.

    A number is written in groups of five bits, the lowest first: 32 says that the number goes on,
    16 in its last group that it is negative. From the fourth on it is the difference to the last
    but one.
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
