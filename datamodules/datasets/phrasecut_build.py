"""Reading PhraseCut's json, once, into the arrays that `phrasecut_index` maps."""

import hashlib
import json
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from datamodules.datasets.files import cache_folder, drafting, writing_to
from datamodules.datasets.phrasecut_index import describe_skipped, is_whole
from datamodules.datasets.phrasecut_photos import photos_that_differ
from datamodules.datasets.transforms import Points, can_be_drawn, covers_nothing, is_size

log = logging.getLogger(__name__)

VERSION = 3
_CHUNK = 1 << 22
_FILE_NAME = re.compile(r"[\w.-]+")  # predictions are filed under the task's id
_LONGEST_TASK = 1 << 26
"""characters; a few of thousands of tasks of PhraseCut have more than 1 << 16"""

BAD_IMAGES = frozenset(
    map(
        int,
        "150417 285665 498246 61564 285743 498269 498010 150516 150344 286093 61530 150333 286065 "
        "285814 498187 285761 498042".split(),
    )
)
"""images whose annotated size is not that of the file, as the authors list them (paper.md 2.2)"""
ON_BAD_IMAGES = "on images with wrong sizes (published list)"

Usable = tuple[str, int, str, list[Points]]
"""a task: id, image id, phrase, polygons"""


def build_index(tasks: Path, table: Path, images: Path) -> Path:
    """Return the folder of a split's index, building it first if it is missing or damaged.

    The folder appears whole or not at all; of several processes one builds (`drafting`).

    Args:
        tasks: `refer_<split>.json`.
        table: the image table.
        images: folder of photos; their headers are compared with the table.

    Raises:
        ValueError: if a file is not what it should be, naming it.
        OSError: if the cache cannot be written to, naming it.
    """
    stamp = [
        (str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns)
        for file in (tasks, table, images)  # the folder's time changes as photos come and go
    ]
    key = hashlib.sha256(json.dumps([VERSION, stamp]).encode()).hexdigest()[:16]
    folder = cache_folder() / "phrasecut" / f"{tasks.stem}-{key}"
    if is_whole(folder):
        return folder
    with drafting(folder) as private:
        if is_whole(folder):  # built meanwhile
            return folder
        draft = private / "index"  # readable to whom the cache is readable, unlike its parent
        draft.mkdir()
        _write_index(draft, tasks, table, images)
        with writing_to(folder.parent):
            if folder.exists() and not is_whole(folder):
                log.warning("%s is damaged: built again", folder)
                os.replace(folder, private / "damaged")
            try:
                os.replace(draft, folder)
            except OSError:  # on a disk without locks another process was first
                if not is_whole(folder):
                    raise
    return folder


def stream_tasks(file: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON list of objects one by one, in constant memory.

    Raises:
        ValueError: if the file is not such a list, or ends early.
    """
    decoder = json.JSONDecoder()
    with file.open(encoding="utf-8", errors="surrogateescape") as stream:
        buffer, position = stream.read(_CHUNK).lstrip(), 1
        if not buffer.startswith("["):
            raise ValueError(f"{file}: does not start as a JSON list")
        while True:
            while position < len(buffer) and buffer[position] in " \t\r\n,":
                position += 1
            if buffer[position : position + 1] == "]":
                if (buffer[position + 1 :] + stream.read(_CHUNK)).strip():
                    raise ValueError(f"{file}: goes on after the end of its JSON list")
                return
            try:
                task, position = decoder.raw_decode(buffer, position)
            except ValueError as error:
                more = stream.read(_CHUNK)
                if not more or len(buffer) - position > _LONGEST_TASK:
                    raise ValueError(f"{file}: ends early or is not JSON ({error})") from error
                buffer, position = buffer[position:] + more, 0
                continue
            except RecursionError as error:
                raise ValueError(f"{file}: nested too deeply to be PhraseCut's") from error
            if not isinstance(task, dict):
                raise ValueError(f"{file}: holds {type(task).__name__} where tasks should be")
            yield task


def _write_index(draft: Path, tasks: Path, table: Path, images: Path) -> None:
    sizes = read_table(table)
    skipped: defaultdict[str, list[str]] = defaultdict(list)
    kept = list(usable_tasks(tasks, sizes, skipped))
    wrong = photos_that_differ(images, {image: sizes[image] for _, image, _, _ in kept})
    for name, image, _, _ in kept:
        if image in wrong:
            skipped[wrong[image]].append(name)
    kept = [task for task in kept if task[1] not in wrong]
    if not kept:
        listed, reasons = sum(map(len, skipped.values())), describe_skipped(skipped) or "none"
        raise ValueError(f"{tasks}: no usable task among {listed} listed; skipped {reasons}")
    with writing_to(draft.parents[1]):
        _save_arrays(draft, kept, sizes)
        (draft / "skipped.json").write_text(json.dumps(skipped))


def usable_tasks(
    file: Path, sizes: Mapping[int, tuple[int, int]], skipped: defaultdict[str, list[str]]
) -> Iterator[Usable]:
    """Read the tasks of a split that can serve, as far as their photos do.

    Args:
        file: `refer_<split>.json`.
        sizes: height and width by image id.
        skipped: takes the ids of the others, by reason.

    Raises:
        ValueError: if the file is not a list of tasks, naming it.
    """
    seen: set[str] = set()
    for task in stream_tasks(file):
        name, image, phrase = task.get("task_id"), task.get("image_id"), task.get("phrase")
        if not _is_text(name) or not _FILE_NAME.fullmatch(name):
            skipped["without an id that can name a file"].append(repr(name))
        elif name in seen:
            skipped["with an id that came before"].append(name)
        elif isinstance(image, int) and image in BAD_IMAGES:
            skipped[ON_BAD_IMAGES].append(name)
        elif not isinstance(image, int) or image not in sizes:
            skipped["on images that the image table lacks"].append(name)
        elif not _is_text(phrase):
            skipped["without a phrase"].append(name)
        elif (polygons := _read_polygons(task.get("Polygons"))) is None:
            skipped["with malformed polygons"].append(name)
        elif covers_nothing(polygons, *sizes[image]):
            skipped["whose polygons cover no pixel"].append(name)
        else:
            seen.add(name)
            yield name, image, phrase, polygons


def _save_arrays(draft: Path, kept: list[Usable], sizes: dict[int, tuple[int, int]]) -> None:
    image_ids = list(dict.fromkeys(image for _, image, _, _ in kept))
    phrases = list(dict.fromkeys(phrase for _, _, phrase, _ in kept))
    image_row = {image: row for row, image in enumerate(image_ids)}
    phrase_row = {phrase: row for row, phrase in enumerate(phrases)}
    polygons = [polygon for task in kept for polygon in task[3]]
    arrays: dict[str, npt.NDArray[Any]] = {
        "image_id": np.array(image_ids),
        "image_size": np.array([sizes[image] for image in image_ids]),
        "task_image": np.array([image_row[task[1]] for task in kept]),
        "task_phrase": np.array([phrase_row[task[2]] for task in kept]),
        "points": np.concatenate(polygons),
        "point_offsets": _offsets([len(polygon) for polygon in polygons]),
        "polygon_offsets": _offsets([len(task[3]) for task in kept]),
    }
    for name, owner, count in (
        ("by_phrase", arrays["task_phrase"], len(phrases)),
        ("by_image", arrays["task_image"], len(image_ids)),
    ):
        arrays[name] = np.argsort(owner, kind="stable")
        arrays[f"{name}_offsets"] = _offsets(np.bincount(owner, minlength=count).tolist())
    for name, strings in (("phrases", phrases), ("task_id", [task[0] for task in kept])):
        encoded = [string.encode() for string in strings]
        arrays[name] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays[f"{name}_offsets"] = _offsets([len(text) for text in encoded])
    for name, values in arrays.items():
        np.save(draft / f"{name}.npy", values)


def read_table(table: Path) -> dict[int, tuple[int, int]]:
    """Height and width by image id.

    Raises:
        ValueError: naming the file, if it is something else.
    """
    try:
        rows = json.loads(table.read_text(encoding="utf-8"))
        sizes = {row["image_id"]: (row["height"], row["width"]) for row in rows}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{table}: not PhraseCut's image table ({error!r})") from error
    for image, size in sizes.items():
        if bool in map(type, size) or not is_size(size):
            raise ValueError(f"{table}: image {image} has no size but {size}")
    return sizes


def _is_text(given: object) -> TypeGuard[str]:
    """Whether it is a string, not blank, that UTF-8 can hold."""
    if not isinstance(given, str) or not given.strip():
        return False
    return not any("\ud800" <= character <= "\udfff" for character in given)


def _read_polygons(given: object) -> list[Points] | None:
    """[instance][polygon][point][2] to flat polygons; None if it is shaped otherwise."""
    polygons = []
    try:
        for instance in given:  # type: ignore[attr-defined]  # anything may stand in a file
            for polygon in instance:
                points = np.array(polygon, np.float64)
                if polygon and (points.ndim != 2 or points.shape[1] != 2):
                    return None
                if not can_be_drawn(points):
                    return None
                if len(points) >= 2:
                    polygons.append(points)
    except (TypeError, ValueError, OverflowError):
        return None
    return polygons


def _offsets(lengths: list[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
