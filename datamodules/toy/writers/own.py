"""Toy example of a custom dataset, with phrases that no other toy dataset has."""

import csv
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.toy.language.words import PROPERTY_SENTENCES, kind_name, properties_of
from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.scenes.scene import Scene, draw_scene
from datamodules.toy.writers.folder import (
    Request,
    counts_of,
    describe,
    write_json,
    write_lines,
)
from datamodules.toy.writers.pictures import label_map, outline, write_jpeg, write_labels

_FOLDER = "own"
_SPLITS = ("all",)
_SIZE = 120, 160  # height and width in pixels
_OWN = 0x0B0B  # first part of every generator's seed, unique to this dataset
_MORE_THINGS = 4, 0.5  # binomial (n, p): number of things after the first
_CATEGORIES = {kind: number for number, kind in enumerate(PASCAL_KINDS, 1)}


def own_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Return the request to build `<root>/own`, in the three formats of docs/own_data.md.

    All three annotate the photos in `images`. `phrases.csv` has phrases about affordances,
    attributes and parts of things, with binary masks. `classes.jsonl` has the names of things,
    with label maps. `coco.json` has the names of things, with polygons.

    Args:
        scenes: Split -> number of images; the only split is "all".
        seed: Equal seeds give equal files.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, _SPLITS, "own")
    fill = partial(_fill, count=counts["all"], seed=seed)
    return Request((_FOLDER,), describe(counts, _SIZE, seed), fill)


def draw_own(seed: int, index: int) -> Scene:
    """Draw the scene of a photo from the dataset's seed and the index of the photo."""
    rng = np.random.default_rng((_OWN, seed, index))
    return draw_scene(rng, _SIZE, kinds=PASCAL_KINDS, count=1 + int(rng.binomial(*_MORE_THINGS)))


def properties(scene: Scene) -> dict[str, NDArray[np.bool_]]:
    """Return phrases about affordances, attributes and parts of the things in a scene.

    Returns:
        Phrase, such as "something with wheels" -> (H, W) bool mask of all matching things.
    """
    found = {}
    for name, sentences in PROPERTY_SENTENCES.items():
        masks = [thing.mask for thing in scene.things if name in properties_of(thing.parts)]
        if masks:
            found[next(s for s in sentences if s.startswith("some"))] = np.any(masks, 0)
    return found


def _fill(building: Path, advance: Callable[[], None], count: int, seed: int) -> None:
    """Draw every photo and write its annotations."""
    folder = building / _FOLDER
    for name in ("images", "masks", "labels"):
        (folder / name).mkdir()
    phrases: list[tuple[str, str, str]] = []
    classes: list[str] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, count + 1):
        photo, labels = f"images/{number:04}.jpg", f"labels/{number:04}.png"
        scene = draw_own(seed, number - 1)
        write_jpeg(folder / photo, scene.image)
        for phrase, mask in properties(scene).items():
            file = f"masks/{number:04}_{phrase.replace(' ', '_')}.png"
            write_labels(folder / file, mask.astype(np.uint8) * 255)
            phrases.append((photo, file, phrase))
        write_labels(folder / labels, label_map(scene, _CATEGORIES))
        for kind in sorted({thing.kind for thing in scene.things}):
            row = {"image": photo, "mask": labels, "label": _CATEGORIES[kind]}
            classes.append(json.dumps({**row, "phrase": kind_name(kind)}))
        height, width = _SIZE
        images.append({"id": number, "file_name": photo, "height": height, "width": width})
        annotations += _annotations(number, scene, len(annotations) + 1)
        advance()
    with (folder / "phrases.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("image", "mask", "phrase"), *phrases])
    write_lines(folder / "classes.jsonl", classes)
    categories = [{"id": k, "name": kind_name(kind)} for kind, k in _CATEGORIES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(folder / "coco.json", content)


def _annotations(image: int, scene: Scene, first: int) -> list[dict[str, Any]]:
    """Return one annotation per thing, numbered from `first`."""
    return [
        {
            "id": first + number,
            "image_id": image,
            "category_id": _CATEGORIES[thing.kind],
            "iscrowd": 0,
            **outline(thing),
        }
        for number, thing in enumerate(scene.things)
    ]
