"""Writes toy scenes to disk in the layout of the real datasets."""

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from datamodules.toy.captions import Phrase, draw_phrases
from datamodules.toy.polygons import polygons_of
from datamodules.toy.scenes import Scene, draw_scene
from datamodules.toy.stuff import STUFF

PHRASECUT_SPLITS: tuple[str, ...] = ("train", "val", "test", "miniv")
MANIFEST = "toy_world.json"
_FOLDER = "VGPhraseCut_v0"
_PHRASECUT = 0x9C0DE  # opens the generators' seeds: nobody else draws these scenes
_JPEG_QUALITY = 95
_STUFF_ID, _RELATION_ID = 50, 90  # within the hundred ids of a picture, after its things


def write_phrasecut(
    root: Path,
    scenes: Mapping[str, int],
    size: int | tuple[int, int] = 128,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Builds `<root>/VGPhraseCut_v0` unless it is there.

    The folder appears at once and whole; of several processes that build it, one wins and the
    others use its result.

    Args:
        root: Folder of all datasets, made if missing.
        scenes: Split -> number of pictures; splits left out are empty.
        size: Side of the pictures in pixels, or height and width.
        seed: Equal seeds give equal files.
        progress: Show a bar.

    Returns:
        The dataset's folder.

    Raises:
        FileExistsError: The folder holds something else: real data, or another toy world.
    """
    unknown = set(scenes) - set(PHRASECUT_SPLITS)
    if unknown:
        raise ValueError(
            f"no such splits: {sorted(unknown)}; PhraseCut has {', '.join(PHRASECUT_SPLITS)}"
        )
    shape = (size, size) if isinstance(size, int) else tuple(size)
    counts = {split: int(scenes.get(split, 0)) for split in PHRASECUT_SPLITS}
    manifest = {"world": 1, "scenes": counts, "size": list(shape), "seed": seed}
    target = root / _FOLDER
    if not target.exists():
        root.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{_FOLDER}.", dir=root))
        try:
            _fill(building, counts, (shape[0], shape[1]), seed, progress)
            _dump(building / MANIFEST, manifest)
            building.chmod(0o755)
            os.rename(building, target)
        except OSError:
            if not (target / MANIFEST).is_file():  # nobody was faster: a real failure
                raise
        finally:
            shutil.rmtree(building, ignore_errors=True)
    found = json.loads((target / MANIFEST).read_text()) if (target / MANIFEST).is_file() else None
    if found != manifest:
        held = f"a toy world of {found}" if found else "data that the toy world did not write"
        raise FileExistsError(
            f"{target} holds {held}; wanted {manifest}. Give another root or remove it."
        )
    return target


def _fill(
    folder: Path, counts: Mapping[str, int], shape: tuple[int, int], seed: int, progress: bool
) -> None:
    """Draws every split into `folder`."""
    (folder / "images").mkdir()
    table: list[dict[str, Any]] = []
    counters: dict[str, Counter[str]] = {"cat": Counter(), "att": Counter(), "rel": Counter()}
    image_id = 0
    with Progress(disable=not progress, transient=True) as bar:
        job = bar.add_task("drawing toy PhraseCut", total=sum(counts.values()))
        for number, split in enumerate(PHRASECUT_SPLITS):
            tasks: list[dict[str, Any]] = []
            for index in range(counts[split]):
                image_id += 1
                scene, phrases = _described_scene(
                    np.random.default_rng((_PHRASECUT, seed, number, index)), shape
                )
                _write_jpeg(folder / "images" / f"{image_id}.jpg", scene.image)
                table.append(_table_row(image_id, shape, split))
                tasks += _tasks(image_id, scene, phrases)
                bar.advance(job)
            for structure in (task["phrase_structure"] for task in tasks):
                counters["cat"][structure["name"]] += 1
                counters["att"].update(structure["attributes"])
                counters["rel"].update(
                    predicate for predicate, _ in structure["relation_descriptions"]
                )
            _dump(folder / f"refer_{split}.json", tasks)
    _dump(folder / "image_data_split.json", table)
    _dump(
        folder / "name_att_rel_count.json",
        {key: counter.most_common() for key, counter in counters.items()},
    )


def _described_scene(
    rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[Scene, list[Phrase]]:
    """A scene and its phrases, at least one, no two of the same instances, which make task ids."""
    while True:
        scene = draw_scene(rng, shape)
        phrases = {(phrase.things, phrase.stuff): phrase for phrase in draw_phrases(scene, rng)}
        if phrases:
            return scene, list(phrases.values())


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    path.write_bytes(data.tobytes())


def _table_row(image_id: int, shape: tuple[int, int], split: str) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "coco_id": None,
        "flickr_id": None,
        "width": shape[1],
        "height": shape[0],
        "url": "",
        "split": split,
    }


def _tasks(image_id: int, scene: Scene, phrases: list[Phrase]) -> list[dict[str, Any]]:
    """The annotation of each phrase, with PhraseCut's seven keys."""
    tasks = []
    for phrase in phrases:
        ids = (
            [_STUFF_ID + STUFF.index(phrase.stuff)]
            if phrase.stuff
            else [1 + index for index in phrase.things]
        )
        ann_ids = [100 * image_id + number for number in ids]
        masks = phrase.masks(scene)
        tasks.append(
            {
                "task_id": f"{image_id}__{'_'.join(map(str, ann_ids))}",
                "image_id": image_id,
                "ann_ids": ann_ids,
                "instance_boxes": [
                    [float(value) for value in cv2.boundingRect(m.astype(np.uint8))] for m in masks
                ],
                "Polygons": [polygons_of(mask) for mask in masks],
                "phrase": phrase.text,
                "phrase_structure": {
                    "name": phrase.name,
                    "attributes": list(phrase.attributes),
                    "relation_ids": [_RELATION_ID + 100 * image_id for _ in phrase.relations],
                    "relation_descriptions": [list(relation) for relation in phrase.relations],
                    "type": phrase.type,
                },
            }
        )
    return tasks


def _dump(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")))
