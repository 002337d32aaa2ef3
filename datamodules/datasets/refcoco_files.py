"""Files of RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M as published."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pycocotools import mask as coco_mask

from clipseg_pl.prompts.text import normalise_phrase
from datamodules.datasets.annotations import EMPTY
from datamodules.datasets.coco_json import by_id
from datamodules.datasets.coco_masks import Encoded, encode, read_polygons
from datamodules.datasets.files import read_plain_pickle, require, stays_below
from datamodules.datasets.transforms import FARTHEST, is_size

Name = Literal["refcoco", "refcoco+", "refcocog", "grefcoco", "refcoco-m"]
PARTITIONS: dict[Name, tuple[str, ...]] = {
    "refcoco": ("unc", "google"),
    "refcoco+": ("unc",),
    "refcocog": ("umd", "google"),
    "grefcoco": ("unc",),
    "refcoco-m": (),
}
"""dataset, which is also its folder -> its partitions into splits, the most used one first"""
_REFER = "https://github.com/lichengunc/refer (photos: https://cocodataset.org/#download, 2014)"
SOURCES: dict[Name, str] = {
    "refcoco": _REFER,
    "refcoco+": _REFER,
    "refcocog": _REFER,
    "grefcoco": "https://github.com/henghuiding/gRefCOCO",
    "refcoco-m": "https://huggingface.co/datasets/moondream/refcoco-m",
}
_PHOTOS = ("COCO2014/train2014", "images/mscoco/images/train2014")
_COLUMNS = ["image_id", "file_name", "samples"]
NO_CATEGORY = -1
_NO_TARGET = -1  # as annotation of a sentence in gRefCOCO

_NO_ANNOTATION = "whose annotation is missing in instances.json"
_NO_PHOTO = "whose photo is missing in instances.json"
_OTHER_PHOTO = "whose annotation is about another photo"
_CROWD = "about a crowd"


class Photo(NamedTuple):
    """Photo of a ref; the name is its path below the folder of the photos."""

    name: str
    height: int
    width: int


class _Annotation(NamedTuple):
    number: int
    image: object
    crowd: bool
    segmentation: object


class Ref(NamedTuple):
    """Sentences with the same target."""

    name: str
    split: str
    image: int
    annotations: tuple[int, ...]
    """empty for sentences without a target"""
    category: int
    """-1 without a target, for targets of several categories, and in RefCOCO-M"""
    sentences: tuple[tuple[str, str], ...]
    """name and text of each"""


class Target(NamedTuple):
    """A ref with its photo and the mask of its annotations, run lengths of the photo's size."""

    ref: Ref
    photo: Photo
    mask: Encoded


def find_files(root: Path, dataset: Name, split_by: str | None) -> tuple[Path, Path]:
    """Return the file of the refs and the folder of the photos; see `RefCOCO`.

    Raises:
        DatasetNotFoundError: if a part of the dataset is missing.
        ValueError: if the dataset or its partition is unknown.
    """
    if dataset not in get_args(Name):
        raise ValueError(f"dataset must be one of {', '.join(get_args(Name))}, not {dataset!r}")
    known = PARTITIONS[dataset]
    if split_by is not None and split_by not in known:
        raise ValueError(
            f"split_by of {dataset} must be {' or '.join(known) or 'null'}, not {split_by!r}"
        )
    folder = root / dataset
    if known:
        file = _refs_file(folder, dataset, split_by or known[0])
        parts = {name: (folder / name).is_file() for name in (file.name, "instances.json")}
    else:
        tables = [*folder.rglob("*.parquet"), *folder.rglob("*.jsonl")]
        file = folder if tables else folder / "*.parquet"
        parts = {"*.parquet": bool(tables)}
    folders = [root / name for name in _PHOTOS if (root / name).is_dir()]
    parts[f"../{_PHOTOS[0]} (or ../{_PHOTOS[1]})"] = bool(folders)
    require(dataset, folder, parts, SOURCES[dataset])
    return file, folders[0]


def read_targets(
    file: Path, dataset: Name, split: str | None
) -> tuple[list[Target], Counter[str], Counter[str]]:
    """Read the refs of a split with their photos and masks; None reads all splits.

    Args:
        file: file of the refs, or folder of RefCOCO-M, from `find_files`.
        dataset: name of the dataset.
        split: name of the split.

    Returns:
        targets, number of sentences by split in the whole file, number of skipped sentences by
        reason

    Raises:
        ValueError: if the split does not exist, a file is malformed, or a Parquet file needs
            pyarrow, which is not installed.
    """
    skipped = Counter[str]()
    if dataset == "refcoco-m":
        refs, targets = _read_moondream(file, skipped)
    else:
        refs = _read_refs(file)
    splits = Counter(ref.split for ref in refs for _ in ref.sentences)
    if split is not None and split not in splits:
        found = ", ".join(f"{name} ({count:,})" for name, count in splits.items())
        raise ValueError(
            f"{file}: no split {split!r}; splits and their sentences: {found or 'none'}"
        )
    if dataset != "refcoco-m":
        chosen = [ref for ref in refs if split in (None, ref.split)]
        targets = _join(chosen, file.parent / "instances.json", dataset == "grefcoco", skipped)
    return targets, splits, skipped


def _refs_file(folder: Path, dataset: Name, partition: str) -> Path:
    prefix, suffix = ("grefs", "json") if dataset == "grefcoco" else ("refs", "p")
    return folder / f"{prefix}({partition}).{suffix}"


def evaluated_photos(dataset: Name, root: Path) -> set[int]:
    """Return the COCO ids of the photos in all splits but "train", in every partition found.

    Raises:
        DatasetNotFoundError: if the dataset has no partition.
        ValueError: if a file is malformed.
    """
    folder = root / dataset
    if dataset == "refcoco-m":
        refs, _ = _read_moondream(folder, Counter())
    else:
        files = (_refs_file(folder, dataset, partition) for partition in PARTITIONS[dataset])
        refs = [ref for file in files if file.is_file() for ref in _read_refs(file)]
    require(dataset, folder, {"refs": bool(refs)}, SOURCES[dataset])
    return {ref.image for ref in refs if ref.split != "train"}


def _read_refs(file: Path) -> list[Ref]:
    """Read refs from a pickle or from JSON.

    Raises:
        ValueError: if the file is damaged or not a list of refs, or if its pickle would run code.
    """
    try:
        content: Any = (
            json.loads(file.read_text(encoding="utf-8"))
            if file.suffix == ".json"
            else read_plain_pickle(file)
        )
        return [_ref(entry) for entry in content]
    except Exception as error:  # a damaged pickle can raise any exception
        raise ValueError(f"{file}: not a list of refs ({error!r:.200})") from error


def _ref(entry: Mapping[str, Any]) -> Ref:
    number, annotations, categories = (
        _integers(entry[key]) for key in ("ref_id", "ann_id", "category_id")
    )
    if annotations == (_NO_TARGET,):
        annotations, categories = (), ()
    return Ref(
        str(number[0]),
        str(entry["split"]),
        _integers(entry["image_id"])[0],
        annotations,
        categories[0] if len(set(categories)) == 1 else NO_CATEGORY,
        tuple(
            (f"{number[0]}__{_integers(one['sent_id'])[0]}", normalise_phrase(one["sent"]))
            for one in entry["sentences"]
        ),
    )


def _integers(value: object) -> tuple[int, ...]:
    """Return one or several integers from a file."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(type(number) is int for number in values):
        raise ValueError(f"{value!r:.40} is not an integer")
    return tuple(values)


def _join(
    refs: Sequence[Ref], file: Path, without_crowds: bool, skipped: Counter[str]
) -> list[Target]:
    """Look up photos and masks of refs in instances.json, and count the sentences skipped.

    Raises:
        ValueError: if the file is malformed.
    """
    wanted = {number for ref in refs for number in ref.annotations}

    def compact(entry: dict[str, Any]) -> object:
        """Drop other annotations while parsing, and convert polygons to arrays."""
        if "segmentation" not in entry:
            return entry
        if entry.get("id") not in wanted:
            return None
        shape = entry["segmentation"]
        if isinstance(shape, list):
            shape = read_polygons(shape, f"annotation {entry['id']}")
        crowd = bool(entry.get("iscrowd"))
        image = entry.get("image_id")
        annotation = _Annotation(entry["id"], image, crowd, shape)
        return annotation.number, f"image {image}", annotation

    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_hook=compact)
        # a dictionary has no segmentation; if a sentence is about it, it counts as missing
        kept = (entry for entry in content["annotations"] if entry and not isinstance(entry, dict))
        annotations = by_id(kept, "annotations")
        used = {ref.image for ref in refs}
        photos = by_id(
            (
                (entry["id"], photo.name, photo)
                for entry in content["images"]
                if entry["id"] in used
                and (photo := _photo(entry["file_name"], (entry["height"], entry["width"])))
            ),
            "images",
            files=True,
        )
        targets = []
        for ref in refs:
            found = [annotations.get(number) for number in ref.annotations]
            reason = _reason(ref, photos, found)
            if reason is None:
                parts = [part for part in found if part and not (without_crowds and part.crowd)]
                target = Target(ref, photos[ref.image], _union(parts, photos[ref.image]))
                if found and not parts:
                    reason = _CROWD
                elif found and not coco_mask.area(target.mask):
                    reason = EMPTY
                else:
                    targets.append(target)
            if reason is not None:
                skipped[reason] += len(ref.sentences)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: invalid COCO annotations ({error})") from error
    return targets


def _reason(
    ref: Ref, photos: Mapping[int, Photo], annotations: Sequence[_Annotation | None]
) -> str | None:
    """Return why a ref has no mask; None if it has one."""
    if ref.image not in photos:
        return _NO_PHOTO
    if None in annotations:
        return _NO_ANNOTATION
    if any(annotation and annotation.image != ref.image for annotation in annotations):
        return _OTHER_PHOTO
    return None


def _union(annotations: Sequence[_Annotation], photo: Photo) -> Encoded:
    """Return the union of masks; an empty mask without any."""
    height, width = photo.height, photo.width
    parts = [
        part
        for annotation in annotations
        for part in encode(
            annotation.segmentation, height, width, f"annotation {annotation.number}"
        )
    ]
    nothing = {"size": [height, width], "counts": [height * width]}
    merged: Encoded = (
        coco_mask.merge(parts) if parts else coco_mask.frPyObjects(nothing, height, width)
    )
    return merged


def _photo(name: object, size: tuple[object, object]) -> Photo:
    if not isinstance(name, str) or not stays_below(name):
        raise ValueError(f"{name!r:.100} is not the name of a photo")
    if not is_size(size) or max(size) >= FARTHEST:
        raise ValueError(f"{name} has invalid height and width {size!r:.60}")
    return Photo(name, *size)


def _read_moondream(folder: Path, skipped: Counter[str]) -> tuple[list[Ref], list[Target]]:
    """Read RefCOCO-M, whose only split is RefCOCO's val.

    Raises:
        ValueError: if a row is malformed, or pyarrow is missing.
    """
    targets, refs, number = list[Target](), list[Ref](), 0
    rows, photos = _rows(folder), dict[int, Photo]()
    try:
        for row in rows:
            image = _integers(row["image_id"])[0]
            for sample in row["samples"]:
                number += 1
                name = f"{image}__{number}"
                sentences = tuple(
                    (f"{name}__{place}", normalise_phrase(text))
                    for place, text in enumerate(sample["sentences"])
                )
                ref = Ref(name, "val", image, (number,), NO_CATEGORY, sentences)
                refs.append(ref)
                photo = _photo(row["file_name"], tuple(sample["mask"]["size"]))
                if photos.setdefault(image, photo) != photo:
                    raise ValueError(f"{photo.name}: masks of different sizes")
                (mask,) = encode(sample["mask"], photo.height, photo.width, f"sample {number}")
                if coco_mask.area(mask):
                    targets.append(Target(ref, photo, mask))
                else:
                    skipped[EMPTY] += len(sentences)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}: invalid rows of RefCOCO-M ({error})") from error
    return refs, targets


def _rows(folder: Path) -> list[Mapping[str, Any]]:
    """Read the rows of all Parquet files; without any, those of all JSON Lines files.

    Raises:
        ValueError: if pyarrow is missing, or a file is malformed.
    """
    tables, lines = sorted(folder.rglob("*.parquet")), sorted(folder.rglob("*.jsonl"))
    try:
        if not tables:
            texts = [text for file in lines for text in file.read_text("utf-8").split("\n")]
            return [json.loads(text) for text in texts if text.strip()]
        from pyarrow import parquet  # an optional package

        parts = [parquet.read_table(file, columns=_COLUMNS).to_pylist() for file in tables]
        return [row for part in parts for row in part]
    except ImportError as error:
        raise ValueError(
            f"{tables[0]}: reading Parquet files needs pyarrow; pip install pyarrow"
        ) from error
    except ValueError as error:  # pyarrow's errors are ValueErrors, too
        raise ValueError(f"{folder}: damaged rows of RefCOCO-M ({error})") from error
