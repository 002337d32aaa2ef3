"""Toy PhraseCut: phrases about toy scenes, in the layout of VGPhraseCut_v0."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from datamodules.toy.language.captions import BACKGROUND, Phrase, draw_phrases
from datamodules.toy.scenes.kinds import INVENTED_KINDS, PASCAL_KINDS, UNNAMED_KINDS
from datamodules.toy.scenes.paint import polygons_of
from datamodules.toy.scenes.scene import Scene, draw_scene
from datamodules.toy.scenes.stuff import STUFF
from datamodules.toy.writers.folder import Request, counts_of, describe, write_json
from datamodules.toy.writers.pictures import write_jpeg

PHRASECUT_SPLITS: tuple[str, ...] = ("train", "val", "test", "miniv")
_FOLDER = "VGPhraseCut_v0"
_SIDE = 128  # pixels
_BACKGROUND = 0.15  # share of the images with the phrase "background"
_PHRASECUT = 0x9C0DE  # first part of every generator's seed, unique to this dataset
# binomial (n, p) of the number of things after the first; its mean is 2.3
_MORE_THINGS = 5, 0.46
# long tail of names: half of the things are of Pascal's kinds, and the share of the n-th invented
# kind is proportional to 1 / (n + 8)
_LONG_TAIL = PASCAL_KINDS * 23 + tuple(
    name for n, name in enumerate(INVENTED_KINDS) for _ in range(round(160 / (n + 8)))
)
# within the 100 ids reserved for each image: things from 1, stuff from 50, all relations share 90
_STUFF_ID, _RELATION_ID = 50, 90


def phrasecut_request(
    scenes: Mapping[str, int], seed: int, size: int | tuple[int, int] = _SIDE
) -> Request:
    """Return the request to build `<root>/VGPhraseCut_v0`.

    Args:
        scenes: Split -> number of images; missing splits are empty.
        seed: Equal seeds give equal files.
        size: Side of the images in pixels, or height and width.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, PHRASECUT_SPLITS, "PhraseCut")
    shape = (size, size) if isinstance(size, int) else size
    fill = partial(_fill, counts=counts, shape=shape, seed=seed)
    return Request((_FOLDER,), describe(counts, shape, seed), fill)


def _fill(
    building: Path,
    advance: Callable[[], None],
    counts: Mapping[str, int],
    shape: tuple[int, int],
    seed: int,
) -> None:
    """Draw every split and write its annotations."""
    folder = building / _FOLDER
    (folder / "images").mkdir()
    table: list[dict[str, Any]] = []
    counters: dict[str, Counter[str]] = {"cat": Counter(), "att": Counter(), "rel": Counter()}
    image_id = 0
    for split in PHRASECUT_SPLITS:
        tasks: list[dict[str, Any]] = []
        for index in range(counts[split]):
            image_id += 1
            scene, phrases = draw_phrasecut(seed, split, index, shape)
            write_jpeg(folder / "images" / f"{image_id}.jpg", scene.image)
            table.append(_table_row(image_id, shape, split))
            tasks += _tasks(image_id, scene, phrases)
            advance()
        for structure in (task["phrase_structure"] for task in tasks):
            counters["cat"][structure["name"]] += 1
            counters["att"].update(structure["attributes"])
            counters["rel"].update(predicate for predicate, _ in structure["relation_descriptions"])
        write_json(folder / f"refer_{split}.json", tasks)
    write_json(folder / "image_data_split.json", table)
    write_json(
        folder / "name_att_rel_count.json",
        {key: counter.most_common() for key, counter in counters.items()},
    )


def draw_phrasecut(
    seed: int, split: str, index: int, shape: tuple[int, int]
) -> tuple[Scene, list[Phrase]]:
    """Draw the scene of an image and its phrases from seed, split and index in the split.

    The training split names no kind of `UNNAMED_KINDS`. There is at least one phrase. No two
    phrases refer to the same instances, because the task id of a phrase consists of the ids of its
    instances.
    """
    rng = np.random.default_rng((_PHRASECUT, seed, PHRASECUT_SPLITS.index(split), index))
    nameless = UNNAMED_KINDS if split == "train" else ()
    while True:
        scene = draw_scene(rng, shape, kinds=_LONG_TAIL, count=1 + int(rng.binomial(*_MORE_THINGS)))
        phrases = {
            (phrase.things, phrase.stuff): phrase for phrase in draw_phrases(scene, rng, nameless)
        }
        if phrases:
            break
    found = list(phrases.values())
    if scene.stuff and rng.random() < _BACKGROUND:
        found.append(Phrase(BACKGROUND, BACKGROUND, (), (), "name", (), BACKGROUND))
    return scene, found


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
    """Return the annotation of each phrase (a "task"), with PhraseCut's seven keys."""
    tasks = []
    for phrase in phrases:
        ids = (
            [_STUFF_ID + (*STUFF, BACKGROUND).index(phrase.stuff)]
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
