"""RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M: sentences about objects in COCO's photos."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch.utils.data import Dataset

from clipseg_pl.images import RGB, UnreadableImageError, read_image, to_tensor
from clipseg_pl.prompts.masks import exif_note
from clipseg_pl.prompts.text import normalise_phrase
from clipseg_pl.prompts.visual import Mask
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.annotations import (
    EMPTY,
    NO_PHRASE,
    Positions,
    reasons,
    reject_missing,
    reject_unusable,
)
from datamodules.datasets.coco_json import by_id
from datamodules.datasets.coco_masks import Encoded, RunLengths, encode, read_polygons
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.files import read_plain_pickle, require, stays_below
from datamodules.datasets.phrase_table import PhraseTable, Rows, Strings, unique_names
from datamodules.datasets.transforms import FARTHEST, PairedResize, is_size

log = logging.getLogger(__name__)

Name = Literal["refcoco", "refcoco+", "refcocog", "grefcoco", "refcoco-m"]
MaskSize = Literal["photo", "model"]
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
_NO_CATEGORY = -1
_NO_TARGET = -1  # as annotation of a sentence in gRefCOCO

_NO_ANNOTATION = "whose annotation is missing in instances.json"
_NO_PHOTO = "whose photo is missing in instances.json"
_OTHER_PHOTO = "whose annotation is about another photo"
_CROWD = "about a crowd"


class _Photo(NamedTuple):
    name: str
    height: int
    width: int


class _Annotation(NamedTuple):
    image: object
    crowd: bool
    segmentation: object


class _Ref(NamedTuple):
    """Sentences with the same target."""

    name: str
    split: str
    image: int
    annotations: tuple[int, ...]
    """empty for sentences without a target"""
    category: int
    """-1 without a target, or for targets of several categories"""
    sentences: tuple[tuple[str, str], ...]
    """name and text of each"""


class _Target(NamedTuple):
    ref: _Ref
    photo: _Photo
    mask: Encoded


class RefCOCO(PhraseTable):
    """Tasks of a dataset of referring expressions: one sentence about one photo each.

    Expected layout below `root`, as the published archives unpack::

        refcoco/refs(unc).p, refs(google).p, instances.json
        refcoco+/refs(unc).p, instances.json
        refcocog/refs(umd).p, refs(google).p, instances.json
        grefcoco/grefs(unc).json, instances.json
        refcoco-m/*.parquet     (or *.jsonl: the same rows in JSON Lines, without pyarrow)
        COCO2014/train2014/COCO_train2014_000000581857.jpg ...
        images/mscoco/images/train2014/     (if COCO2014/train2014 does not exist)

    The photo of a ref is looked up in `instances.json`; the `file_name` of a ref is not the name of
    the photo's file. A ref is skipped, with a warning, if its annotation or the entry of its photo
    is missing, or if its mask is empty; in gRefCOCO also if one of its annotations is a crowd.

    Args:
        root: folder that contains the datasets.
        dataset: name of the dataset.
        split: split to read; None reads all splits.
        split_by: partition into splits, see `PARTITIONS`; None is the most used one.

    Raises:
        DatasetNotFoundError: if a file or a photo of the split is missing.
        ValueError: if the partition or the split does not exist, a file is malformed, no sentence
            is usable, or a Parquet file needs pyarrow, which is not installed.
    """

    def __init__(
        self, root: Path, dataset: Name, split: str | None, split_by: str | None = None
    ) -> None:
        """Read the annotations; photos are read on access."""
        self.file, self.photos = find_files(root, dataset, split_by)
        skipped = Counter[str]()
        if dataset == "refcoco-m":
            refs, targets = _read_moondream(self.file, skipped)
        else:
            refs = _read_refs(self.file)
        self.splits = Counter(ref.split for ref in refs for _ in ref.sentences)
        """split -> number of its sentences in the file"""
        if split is not None and split not in self.splits:
            found = ", ".join(f"{name} ({count:,})" for name, count in self.splits.items())
            raise ValueError(
                f"{self.file}: no split {split!r}; splits and their sentences: {found or 'none'}"
            )
        if dataset != "refcoco-m":
            chosen = [ref for ref in refs if split in (None, ref.split)]
            instances = self.file.parent / "instances.json"
            targets = _join(chosen, instances, dataset == "grefcoco", skipped)
        skipped[NO_PHRASE] = sum(not text for target in targets for _, text in target.ref.sentences)
        rows = [
            (number, name, text)
            for number, target in enumerate(targets)
            for name, text in target.ref.sentences
            if text
        ]
        self.skipped = reject_unusable(self.file, len(rows), skipped)
        """reason -> number of skipped sentences"""
        if self.skipped:
            log.warning("%s: skipped sentences %s", self.file, reasons(self.skipped))
        self.objects = len({number for target in targets for number in target.ref.annotations})
        """number of different annotations that the sentences are about"""
        self._pack(targets, rows)
        names = [self._names_of_photos[photo] for photo in range(len(self._names_of_photos))]
        absent = [name for name in names if not (self.photos / name).is_file()]
        reject_missing(self.file, self.photos, "photos", absent, len(names))

    def _pack(self, targets: Sequence[_Target], rows: Sequence[tuple[int, str, str]]) -> None:
        """Store the annotations as flat arrays, which forked data workers share."""
        numbers, names, texts = zip(*rows, strict=True)
        phrase_of, photo_of = Positions(), Positions()
        photos = [photo_of[target.photo.name] for target in targets]
        sizes = np.array([target.photo[1:] for target in targets], np.int32)
        self._names_of_photos = Strings.pack(list(photo_of))
        self._masks = RunLengths.pack([target.mask["counts"] for target in targets], sizes)
        self._target = np.array(numbers, np.int64)
        self._category = np.array([target.ref.category for target in targets])[self._target]
        self._has_target = np.array([bool(t.ref.annotations) for t in targets])[self._target]
        self._names = Strings.pack(unique_names(names))
        phrase = np.array([phrase_of[text] for text in texts], np.int64)
        self._photo_of_row = np.array(photos, np.int64)[self._target]
        ids = coco_ids(photo_of)[self._photo_of_row]
        super().__init__(list(phrase_of), phrase, self._photo_of_row, ids)

    def read_name(self, row: int) -> str:
        """Return the ids of ref and sentence, joined by two underscores."""
        return self._names[row]

    def photo_name(self, task: int) -> str:
        """Return the file name of a task's photo, such as COCO_train2014_000000581857.jpg."""
        return self._names_of_photos[int(self._photo[task])]

    def read_image(self, row: int) -> RGB:
        """Read the photo of a row, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file is unreadable or not of the annotated size.
        """
        file = self.photos / self._names_of_photos[int(self._photo_of_row[row])]
        image, size = read_image(file), tuple(self._masks.sizes[self._target[row]].tolist())
        if image.shape[:2] != size:
            note = exif_note(image.shape[:2], size, file)
            raise UnreadableImageError(
                f"{file}: size is {image.shape[:2]}, annotated as {size}{note}"
            )
        return image

    def read_mask(self, row: int) -> Mask:
        """Return the target of a row, (H, W) bool: the union of its annotations."""
        return self._masks(int(self._target[row]))

    def partners(self, task: int, phrase: int) -> Rows:
        """Return the tasks about objects of the same category in other photos.

        The category is that of the task. For another phrase (a negative), it is that of the first
        task with this phrase. Tasks without a target, or with targets of several categories,
        neither have nor are partners.
        """
        shown = task if phrase == self.phrase(task) else int(self.tasks_of_phrase(phrase)[0])
        category, photo = self._category[self.rows], self._photo
        if category[shown] == _NO_CATEGORY:
            return np.empty(0, np.int64)
        return np.flatnonzero((category == category[shown]) & (photo != photo[task]))

    def has_target(self, task: int) -> bool:
        """Return whether the sentence of a task refers to anything in the photo."""
        return bool(self._has_target[self.rows[task]])

    def target(self, task: int) -> int:
        """Return a number that tasks share if they have the same target."""
        return int(self._target[self.rows[task]])

    def counts(self) -> dict[str, int]:
        """Return the number of photos, sentences, and sentences without a target."""
        without = int((~self._has_target[self.rows]).sum())
        return {
            "photos": len(np.unique(self._photo)),
            "sentences": len(self),
            "without a target": without,
        }

    def by_photo(self) -> list[Rows]:
        """Return the tasks of each photo that has any, in the order of their first task."""
        _, first = np.unique(self._photo, return_index=True)
        return [self.tasks_of_image(task) for task in np.sort(first).tolist()]


class RefCOCOPhotos(Dataset[Sample]):
    """Evaluation samples: a photo with all of its sentences, indexed by (epoch, photo).

    The epoch is ignored. Photos are squashed to a square, as in the authors' evaluation.

    Args:
        source: the sentences.
        image_size: side of the query images in pixels.
        evaluation_form: template of the text prompts, "{}" for the sentence.
        mask_size: "photo" for targets of the photo's own size, "model" for targets squashed to the
            size of the query image.
    """

    def __init__(
        self, source: RefCOCO, image_size: int, evaluation_form: str, mask_size: MaskSize
    ) -> None:
        """Group the sentences by photo."""
        self.source, self.photos = source, source.by_photo()
        self.evaluation_form, self.mask_size = evaluation_form, mask_size
        self.resize = PairedResize(image_size)
        self.coco_ids = coco_ids(map(self.photo_name, range(len(self.photos))))
        """(photos,) int64"""

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.photos)

    def photo_name(self, photo: int) -> str:
        """Return the file name of a photo."""
        return self.source.photo_name(int(self.photos[photo][0]))

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Load the sample of a photo."""
        tasks = self.photos[key[1]].tolist()
        photo = self.source.image(tasks[0])
        image, _ = self.resize(photo, np.zeros(photo.shape[:2], np.bool_))
        masks: dict[int, torch.Tensor] = {}
        for task in tasks:
            if self.source.target(task) not in masks:
                mask = self.source.mask(task)
                mask = mask if self.mask_size == "photo" else self.resize.mask(mask)
                masks[self.source.target(task)] = torch.from_numpy(mask)[None]
        valid = torch.ones_like(next(iter(masks.values())))
        return Sample(
            query_image=to_tensor(image),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=[
                Prompt(
                    prompt_id=self.source.name(task),
                    query_mask=masks[self.source.target(task)],
                    valid_mask=valid,
                    phrase=(words := self.source.phrases[self.source.phrase(task)]),
                    text_prompt=self.evaluation_form.replace("{}", words),
                    supports=[],
                    mix_weight=1.0,
                    class_id=-1,
                    negative=not self.source.has_target(task),
                )
                for task in tasks
            ],
        )


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


def _read_refs(file: Path) -> list[_Ref]:
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


def _ref(entry: Mapping[str, Any]) -> _Ref:
    number, annotations, categories = (
        _integers(entry[key]) for key in ("ref_id", "ann_id", "category_id")
    )
    if annotations == (_NO_TARGET,):
        annotations, categories = (), ()
    return _Ref(
        str(number[0]),
        str(entry["split"]),
        _integers(entry["image_id"])[0],
        annotations,
        categories[0] if len(set(categories)) == 1 else _NO_CATEGORY,
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
    refs: Sequence[_Ref], file: Path, without_crowds: bool, skipped: Counter[str]
) -> list[_Target]:
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
        return entry["id"], f"image {image}", _Annotation(image, crowd, shape)

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
            reason = _reason(ref, photos, found, without_crowds)
            if reason is None:
                photo = photos[ref.image]
                mask = _union(ref.annotations, found, photo, without_crowds)
                if ref.annotations and not coco_mask.area(mask):
                    reason = EMPTY
                else:
                    targets.append(_Target(ref, photo, mask))
            if reason is not None:
                skipped[reason] += len(ref.sentences)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: invalid COCO annotations ({error})") from error
    return targets


def _reason(
    ref: _Ref,
    photos: Mapping[int, _Photo],
    annotations: Sequence[_Annotation | None],
    without_crowds: bool,
) -> str | None:
    """Return why a ref is skipped; None if it is not."""
    if ref.image not in photos:
        return _NO_PHOTO
    if None in annotations:
        return _NO_ANNOTATION
    known = [annotation for annotation in annotations if annotation is not None]
    if any(annotation.image != ref.image for annotation in known):
        return _OTHER_PHOTO
    crowds = without_crowds and known and all(annotation.crowd for annotation in known)
    return _CROWD if crowds else None


def _union(
    numbers: Sequence[int],
    annotations: Sequence[_Annotation | None],
    photo: _Photo,
    without_crowds: bool,
) -> Encoded:
    """Return the union of the masks of a ref; an empty mask if it has no annotation."""
    height, width = photo.height, photo.width
    parts = [
        part
        for number, annotation in zip(numbers, annotations, strict=True)
        if annotation is not None and not (without_crowds and annotation.crowd)
        for part in encode(annotation.segmentation, height, width, f"annotation {number}")
    ]
    nothing = {"size": [height, width], "counts": [height * width]}
    merged: Encoded = (
        coco_mask.merge(parts) if parts else coco_mask.frPyObjects(nothing, height, width)
    )
    return merged


def _photo(name: object, size: tuple[object, object]) -> _Photo:
    if not isinstance(name, str) or not stays_below(name):
        raise ValueError(f"{name!r:.100} is not the name of a photo")
    if not is_size(size) or max(size) >= FARTHEST:
        raise ValueError(f"{name} has invalid height and width {size!r:.60}")
    return _Photo(name, *size)


def _read_moondream(folder: Path, skipped: Counter[str]) -> tuple[list[_Ref], list[_Target]]:
    """Read RefCOCO-M, whose only split is RefCOCO's val.

    Raises:
        ValueError: if a row is malformed, or pyarrow is missing.
    """
    targets, refs, number = list[_Target](), list[_Ref](), 0
    rows, photos = _rows(folder), dict[int, _Photo]()
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
                ref = _Ref(name, "val", image, (number,), _NO_CATEGORY, sentences)
                refs.append(ref)
                photo = _photo(row["file_name"], tuple(sample["mask"]["size"]))
                if photos.setdefault(image, photo) != photo:
                    raise ValueError(f"{photo.name}: masks of different sizes")
                (mask,) = encode(sample["mask"], photo.height, photo.width, f"sample {number}")
                if coco_mask.area(mask):
                    targets.append(_Target(ref, photo, mask))
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
