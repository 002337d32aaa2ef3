"""Phrases and masks from COCO's JSON format. Phrases are captions or names of categories."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from clipseg_pl.prompts.masks import exif_note
from clipseg_pl.prompts.text import normalise_phrase
from datamodules.datasets.annotations import (
    EMPTY,
    NO_PHRASE,
    Annotations,
    Positions,
    Sizes,
    class_phrase,
    photo_sizes,
    reject_unusable,
)
from datamodules.datasets.coco_masks import (
    Box,
    Encoded,
    RunLengths,
    encode,
    encode_box,
    read_box,
    read_polygons,
)
from datamodules.datasets.phrase_table import Strings
from datamodules.datasets.transforms import FARTHEST, is_size

Id = int | str
_Id = TypeVar("_Id", int, str, Id)
_Entry = TypeVar("_Entry")

_NO_MASK = "without a segmentation"
_BOX_OUTSIDE = "with a box outside the photo"
_BOX_WITHOUT_AREA = "with a box without area"
_TWO_POINTS = "with polygons of fewer than three points"
_SPARE_TWO_POINTS = "polygons of fewer than three points in annotations with other polygons"
_INCOMPLETE = "masks left incomplete by a skipped annotation"
_UNUSABLE_PHOTO = "photos without a usable annotation"
_MISSING_UNANNOTATED = "photos without annotations whose files are missing"
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
    """polygons as arrays; RLE as stored in the file; None if there is none"""
    box: Box | None
    """only of annotations without a segmentation"""


_Task = tuple[_Photo, str]
"""photo and phrase"""


@dataclass(frozen=True)
class _Found:
    """Contents of a file."""

    regions: dict[_Task, list[Encoded]] = field(default_factory=dict)
    boxes: Counter[_Task] = field(default_factory=Counter)
    """number of annotations that have a box only"""
    incomplete: set[_Task] = field(default_factory=set)
    """tasks with an unusable annotation"""
    annotated: set[_Photo] = field(default_factory=set)
    unannotated: list[_Photo] = field(default_factory=list)
    """photos without annotations"""
    categories: list[str] = field(default_factory=list)
    """names as phrases"""
    skipped: Counter[str] = field(default_factory=Counter)


def read_coco(file: Path, images: Path, rectangles: bool = False) -> Annotations:
    """Read annotations in COCO's format, with one task per photo and phrase.

    The phrase of an annotation is its `phrase`, else its `caption`, else the name of its category
    with underscores replaced by blanks. All annotations of a photo with the same phrase are merged
    into one mask, including crowds (`iscrowd`). If one of them is unusable, the phrase is unknown
    on this photo, because an object would be missing from the mask. LVIS files, which give
    `coco_url` instead of `file_name`, are supported.

    Args:
        file: JSON with `images` and `annotations`, and with `categories` unless all annotations
            have phrases.
        images: folder that `file_name` is relative to.
        rectangles: whether annotations that have a box and no mask are filled as rectangles.

    Raises:
        DatasetNotFoundError: if photos that have annotations are missing.
        ValueError: if the file is not in COCO's format, an id or a photo is duplicated, the size
            of a photo differs from its entry, annotations have boxes only and `rectangles` is
            false, or there are neither usable annotations nor photos without annotations.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            content = json.load(stream, object_hook=_compact)
        found = _collect(content)
    except ValueError as error:
        raise ValueError(f"{file}: invalid COCO annotations ({error})") from error
    boxes, skipped = sum(found.boxes.values()), found.skipped
    if boxes and not rectangles:
        raise ValueError(
            f"{file}: {boxes} annotations have a box and no mask: to fill the boxes, set `boxes: "
            "rectangles` in the config (--data.init_args.boxes rectangles), or export polygons"
        )
    tasks: dict[_Task, Encoded] = {}
    for key, parts in found.regions.items():
        union = coco_mask.merge(parts) if parts else None
        if key in found.incomplete:
            skipped[_INCOMPLETE] += 1
        elif union and coco_mask.area(union):
            tasks[key] = union
        else:
            skipped[EMPTY] += 1
            found.incomplete.add(key)
    unannotated = [photo for photo in found.unannotated if (images / photo.name).is_file()]
    skipped[_MISSING_UNANNOTATED] += len(found.unannotated) - len(unannotated)
    photo_of, phrase_of = Positions(), Positions()
    photo = np.array([photo_of[entry.name] for entry, _ in tasks], np.int64)
    phrase = np.array([phrase_of[text] for _, text in tasks], np.int64)
    skipped[_UNUSABLE_PHOTO] += len(found.annotated) - len(photo_of)
    skipped_counts = reject_unusable(file, len(tasks) + len(unannotated), skipped)
    used = {*unannotated, *(entry for entry, _ in tasks)}
    for entry in unannotated:
        photo_of[entry.name]
    # photos without a usable annotation are kept, because another table may list them
    unknown = [
        (photo_of[entry.name], phrase_of[text])
        for entry, text in sorted(found.incomplete)
        if entry.name in photo_of or (images / entry.name).is_file()
    ]
    sizes = photo_sizes(file, images, list(photo_of))
    _reject_size_mismatches(file, images, used, photo_of, sizes)
    counts = [region["counts"] for region in tasks.values()]
    row_boxes = np.array([found.boxes[key] for key in tasks], np.int64)
    return Annotations(
        file=file,
        folder=images,
        photos=Strings.pack(list(photo_of)),
        sizes=sizes,
        phrases=Strings.pack(list(phrase_of)),
        photo=photo,
        phrase=phrase,
        number=np.arange(1, len(photo) + 1),
        masks=RunLengths.pack(counts, sizes[photo]),
        skipped=skipped_counts,
        row_boxes=row_boxes,
        unknown=np.array(unknown, np.int64).reshape(-1, 2),
        unused=tuple(name for name in found.categories if name not in phrase_of),
    )


def _compact(entry: dict[str, Any]) -> object:
    """Convert annotations to arrays while parsing; Python lists take four times the memory."""
    if "image_id" not in entry or not entry.keys().isdisjoint(_OTHER_KEYS):
        return entry
    return _read_annotation(entry)


def _read_annotation(entry: Mapping[str, Any]) -> _Annotation:
    segmentation, where = entry.get("segmentation"), f"annotation {entry.get('id')}"
    if isinstance(segmentation, list):
        segmentation = read_polygons(segmentation, where)
        if not any(map(len, segmentation)):
            segmentation = None
    return _Annotation(
        entry.get("id"),
        entry["image_id"],
        entry.get("category_id"),
        next((entry[key] for key in _PHRASES if entry.get(key) not in (None, "")), None),
        segmentation,
        read_box(entry.get("bbox"), where) if segmentation is None else None,
    )


def _collect(content: object) -> _Found:
    """Return the regions of each photo and phrase, and count the skipped annotations."""
    if not isinstance(content, Mapping):
        raise ValueError("expected an object with images and annotations")
    names = by_id(_categories(content), "categories")
    photos = by_id(_photos(content), "images", files=True)
    found = _Found(categories=[class_phrase(name) for name in names.values()])
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
                phrase = class_phrase(name)
        except ValueError as error:
            raise ValueError(f"{where} {error}") from error
        if not isinstance(phrase, str):
            raise ValueError(f"{where}: phrase {phrase!r:.40} is not a string")
        found.annotated.add(photo)
        text = normalise_phrase(phrase)
        if text:
            _add(found, (photo, text), annotation, where)
        else:
            found.skipped[NO_PHRASE] += 1
    federated = _federated(content)
    found.unannotated.extend(
        photo
        for number, photo in photos.items()
        if photo not in found.annotated and number not in federated
    )
    return found


def _add(found: _Found, task: _Task, annotation: _Annotation, where: str) -> None:
    """Add the region of an annotation to its task, or count it as skipped."""
    (_, height, width), _ = task
    shape, box, reason = annotation.segmentation, annotation.box, None
    encoded: list[Encoded] = []
    if shape is not None:
        encoded = encode(shape, height, width, where)
        short = sum(len(flat) < 6 for flat in shape) if isinstance(shape, list) else 0
        if short and not encoded:
            reason = _TWO_POINTS
        elif short:
            found.skipped[_SPARE_TWO_POINTS] += short
    elif box is None:
        reason = _NO_MASK
    elif box[2] <= 0 or box[3] <= 0:
        reason = _BOX_WITHOUT_AREA
    elif filled := encode_box(box, height, width):
        encoded = [filled]
        found.boxes[task] += 1
    else:
        reason = _BOX_OUTSIDE
    if reason is None:
        found.regions.setdefault(task, []).extend(encoded)
    else:
        found.skipped[reason] += 1
        found.incomplete.add(task)


def _federated(content: Mapping[str, Any]) -> set[Id | None]:
    """Return the ids of LVIS's images, where objects of most categories are not annotated."""
    return {
        read_id(entry["id"])
        for _, entry in _entries(content, "images")
        if "neg_category_ids" in entry
    }


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
    if not is_size(size) or max(size) >= FARTHEST:
        raise ValueError(
            f"{where}: height or width is missing or not an integer from 1 to {FARTHEST:.0f}"
        )
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
