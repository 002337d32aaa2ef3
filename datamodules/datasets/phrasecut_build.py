"""Convert PhraseCut's JSON files to the memory-mapped arrays that `PhraseCut` uses."""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import image_size
from datamodules.datasets.annotations import in_threads, reasons
from datamodules.datasets.coco_json import read_id
from datamodules.datasets.coco_photos import NO_ID
from datamodules.datasets.files import (
    DatasetNotFoundError,
    cache_folder,
    cache_key,
    drafting,
    writing_to,
)
from datamodules.datasets.phrase_table import Strings
from datamodules.datasets.transforms import FARTHEST, Points, Polygons, covers_nothing, is_size

SOURCE = "https://github.com/ChenyunWu/PhraseCutDataset"
VERSION = 6
_FILE_NAME = re.compile(r"[\w.-]+")  # task ids become names of prediction files

BAD_IMAGES = frozenset(
    map(
        int,
        "150417 285665 498246 61564 285743 498269 498010 150516 150344 286093 61530 150333 286065 "
        "285814 498187 285761 498042".split(),
    )
)
"""images with wrong annotated sizes, from a list published by the authors of PhraseCut"""
ON_BAD_IMAGES = "on images with wrong sizes (published list)"
MISSING_SHARE = 0.1
"""fraction of a split's photos that may be missing; their tasks are skipped"""
_MISSING = "on photos that are missing or unreadable"

Usable = tuple[str, int, str, list[Points]]
"""a usable task: id, image id, phrase, polygons"""


def build_index(tasks: Path, table: Path, images: Path) -> Path:
    """Return the folder of a split's index, and build it first if it is missing.

    Only one process builds at a time, and an incomplete index is never visible (see `drafting`).

    Args:
        tasks: `refer_<split>.json`.
        table: image table.
        images: folder of the photos, whose sizes are compared with the table.

    Raises:
        DatasetNotFoundError: if too many photos are missing.
        ValueError: if a file is malformed or contains no usable task.
        OSError: if the cache is not writable.
    """
    # the modification time of the folder `images` changes when photos are added or removed
    key = cache_key(VERSION, (path.resolve() for path in (tasks, table, images)))
    folder = cache_folder() / "phrasecut" / f"{tasks.stem}-{key}"
    if not folder.is_dir():
        with drafting(folder) as draft:
            if not folder.is_dir():  # another process may have built it while this one waited
                _write_index(draft / "index", tasks, table, images)
                try:
                    os.replace(draft / "index", folder)
                except OSError:  # another machine may have built it first
                    if not folder.is_dir():
                        raise
    return folder


def _write_index(draft: Path, tasks: Path, table: Path, images: Path) -> None:
    sizes, coco_ids = read_image_table(table)
    skipped: defaultdict[str, list[str]] = defaultdict(list)
    kept = list(usable_tasks(tasks, sizes, skipped))
    wrong = photos_that_differ(images, {image: sizes[image] for _, image, _, _ in kept})
    for name, image, _, _ in kept:
        if image in wrong:
            skipped[wrong[image]].append(name)
    kept = [task for task in kept if task[1] not in wrong]
    if not kept:
        total, why = sum(map(len, skipped.values())), describe_skipped(skipped) or "none"
        raise ValueError(f"{tasks}: no usable task among {total}; skipped: {why}")
    with writing_to(draft.parents[1]):
        draft.mkdir()
        _save_arrays(draft, kept, sizes, coco_ids)
        (draft / "skipped.json").write_text(json.dumps(skipped))


def usable_tasks(
    file: Path, sizes: Mapping[int, tuple[int, int]], skipped: defaultdict[str, list[str]]
) -> Iterator[Usable]:
    """Read the usable tasks of a split; photo files are not checked here.

    Args:
        file: `refer_<split>.json`.
        sizes: height and width by image id.
        skipped: receives the ids of all other tasks, by reason.

    Raises:
        ValueError: if the file is not a JSON list of tasks.
    """
    try:
        with file.open(encoding="utf-8") as stream:
            tasks = json.load(stream, object_hook=_compact)
    except ValueError as error:
        raise ValueError(f"{file}: truncated or not JSON ({error})") from error
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"{file}: not a JSON list of tasks")
    seen: set[str] = set()
    for task in tasks:
        name, image, phrase = task.get("task_id"), task.get("image_id"), task.get("phrase")
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
            skipped["without an id that is valid as a file name"].append(repr(name))
        elif name in seen:
            skipped["with a duplicate id"].append(name)
        elif isinstance(image, int) and image in BAD_IMAGES:
            skipped[ON_BAD_IMAGES].append(name)
        elif not isinstance(image, int) or image not in sizes:
            skipped["on images that are not in the image table"].append(name)
        elif not isinstance(phrase, str) or not phrase.strip():
            skipped["without a phrase"].append(name)
        elif (polygons := task.get("Polygons")) is None:
            skipped["with malformed polygons"].append(name)
        elif covers_nothing(polygons, *sizes[image]):
            skipped["with polygons that cover no pixel"].append(name)
        else:
            seen.add(name)
            yield name, image, phrase, polygons


def describe_skipped(skipped: Mapping[str, Sequence[str]]) -> str:
    """Format the number of skipped tasks by reason, for messages."""
    return reasons({reason: len(names) for reason, names in skipped.items()})


def read_image_table(table: Path) -> tuple[dict[int, tuple[int, int]], dict[int, int]]:
    """Read the image table.

    Returns:
        Height and width of all images, and their COCO ids, by image id. The COCO id is -1 for
        photos that are not COCO's.

    Raises:
        ValueError: if the file is not an image table, or a COCO id is not a positive integer.
    """
    try:
        rows = json.loads(table.read_text(encoding="utf-8"))
        sizes = {row["image_id"]: (row["height"], row["width"]) for row in rows}
        # null if the photo is not from COCO
        given = {row["image_id"]: row.get("coco_id") or NO_ID for row in rows}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{table}: not a PhraseCut image table ({error!r})") from error
    coco_ids = dict[int, int]()
    for image, size in sizes.items():
        if not is_size(size):
            raise ValueError(f"{table}: image {image} has invalid height and width {size}")
        number = read_id(given[image])
        if not isinstance(number, int) or (number < 1 and number != NO_ID):
            raise ValueError(
                f"{table}: image {image} has coco_id {given[image]!r:.40}, which is neither null "
                "nor a positive integer"
            )
        coco_ids[image] = number
    return sizes, coco_ids


def photos_that_differ(images: Path, sizes: Mapping[int, tuple[int, int]]) -> dict[int, str]:
    """Compare the headers of photos with their annotated sizes.

    Args:
        images: folder of `<image id>.jpg`.
        sizes: annotated height and width by image id.

    Returns:
        Image id of each unusable photo -> reason to skip its tasks.

    Raises:
        DatasetNotFoundError: if more than a tenth of the photos is missing or unreadable, as
            after an incomplete download.
    """

    def check(item: tuple[int, tuple[int, int]]) -> str:
        image, annotated = item
        found = image_size(images / f"{image}.jpg")
        if found is None:
            return _MISSING
        return "" if found == annotated else "on photos that differ from their annotated size"

    problems = in_threads(check, list(sizes.items()), f"photos in {images.parent.name}")
    wrong = {image: reason for image, reason in zip(sizes, problems, strict=True) if reason}
    missing = [image for image, reason in wrong.items() if reason == _MISSING]
    if len(missing) > MISSING_SHARE * len(sizes):
        raise DatasetNotFoundError(
            f"PhraseCut: {len(missing)} of the {len(sizes)} annotated photos are missing or "
            f"unreadable in {images}; first: {missing[0]}.jpg. Download them from {SOURCE}"
        )
    return wrong


def _save_arrays(
    draft: Path,
    kept: list[Usable],
    sizes: Mapping[int, tuple[int, int]],
    coco_ids: Mapping[int, int],
) -> None:
    image_ids = list(dict.fromkeys(image for _, image, _, _ in kept))
    phrases = list(dict.fromkeys(phrase for _, _, phrase, _ in kept))
    image_row = {image: row for row, image in enumerate(image_ids)}
    phrase_row = {phrase: row for row, phrase in enumerate(phrases)}
    polygons = Polygons.pack([task[3] for task in kept])
    arrays: dict[str, npt.NDArray[Any]] = {
        "image_id": np.array(image_ids),
        "image_size": np.array([sizes[image] for image in image_ids]),
        "coco_id": np.array([coco_ids[image] for image in image_ids]),
        "task_image": np.array([image_row[task[1]] for task in kept]),
        "task_phrase": np.array([phrase_row[task[2]] for task in kept]),
        **vars(polygons),
    }
    for name, strings in (("phrases", phrases), ("task_id", [task[0] for task in kept])):
        packed = Strings.pack(strings)
        arrays |= {name: packed.text, f"{name}_offsets": packed.offsets}
    for name, values in arrays.items():
        np.save(draft / f"{name}.npy", values)


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Convert polygons to arrays while parsing; Python lists would need gigabytes."""
    if "Polygons" not in entry:
        return entry
    task = {key: entry.get(key) for key in ("task_id", "image_id", "phrase")}
    return {**task, "Polygons": _read_polygons(entry["Polygons"])}


def _read_polygons(value: object) -> list[Points] | None:
    """Flatten [instance][polygon][point][2] to a list of polygons; None if malformed."""
    polygons = []
    try:
        for instance in value:  # type: ignore[attr-defined]  # TypeError is caught
            for polygon in instance:
                points = np.array(polygon, np.float64)
                if polygon and (points.ndim != 2 or points.shape[1] != 2):
                    return None
                if not (np.abs(points) < FARTHEST).all():
                    return None
                if len(points) >= 2:
                    polygons.append(points)
    except (TypeError, ValueError, OverflowError):
        return None
    return polygons
