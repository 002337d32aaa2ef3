"""Toy LVIS: scenes with polygons of each thing, in the layout of LVIS v1."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.toy.scenes.scene import Scene
from datamodules.toy.writers.folder import Request, counts_of, describe, write_json
from datamodules.toy.writers.pictures import draw_varied, outline, write_jpeg

LVIS_SPLITS: tuple[str, ...] = ("train", "val")
_FOLDER = "LVIS"
_SIZE = 160, 200  # height and width in pixels
_LVIS = 0x1715  # first part of every generator's seed, unique to this dataset
_URL = "http://images.cocodataset.org"
_FROM_TRAIN = 4  # every fourth image of val is in train2017, because real LVIS has such images


class Category(NamedTuple):
    """An LVIS v1 category; the toy world has only categories of frequency "f" (frequent)."""

    id: int
    name: str
    synset: str
    synonyms: tuple[str, ...]
    meaning: str


LVIS_CATEGORIES: dict[str, Category] = {
    "aeroplane": Category(
        3, "airplane", "airplane.n.01", ("airplane", "aeroplane"), "it flies on fixed wings"
    ),
    "cow": Category(80, "cow", "beef.n.01", ("cow",), "cattle"),
    "bicycle": Category(
        94, "bicycle", "bicycle.n.01", ("bicycle", "bike_(bicycle)"), "two wheels and pedals"
    ),
    "bird": Category(99, "bird", "bird.n.01", ("bird",), "an animal with feathers"),
    "boat": Category(118, "boat", "boat.n.01", ("boat", "ship_(boat)"), "it goes on water"),
    "bottle": Category(133, "bottle", "bottle.n.01", ("bottle",), "it holds a drink"),
    "bus": Category(
        173, "bus_(vehicle)", "bus.n.01", ("bus_(vehicle)", "autobus"), "it carries many people"
    ),
    "car": Category(
        207, "car_(automobile)", "car.n.01", ("car_(automobile)", "automobile"), "four wheels"
    ),
    "cat": Category(225, "cat", "cat.n.01", ("cat",), "a house cat"),
    "chair": Category(232, "chair", "chair.n.01", ("chair",), "a seat for one"),
    "diningtable": Category(
        367, "dining_table", "dining_table.n.01", ("dining_table",), "people eat at it"
    ),
    "dog": Category(378, "dog", "dog.n.01", ("dog",), "a dog"),
    "horse": Category(569, "horse", "horse.n.01", ("horse",), "a horse"),
    "motorbike": Category(
        703, "motorcycle", "motorcycle.n.01", ("motorcycle",), "two wheels and an engine"
    ),
    "person": Category(
        793, "person", "person.n.01", ("person", "man", "woman", "human"), "a human being"
    ),
    "pottedplant": Category(837, "flowerpot", "pot.n.04", ("flowerpot",), "a plant grows in it"),
    "sheep": Category(943, "sheep", "sheep.n.01", ("sheep",), "an animal with wool"),
    "sofa": Category(982, "sofa", "sofa.n.01", ("sofa", "couch"), "a soft seat for several"),
    "tvmonitor": Category(
        1077,
        "television_set",
        "television_receiver.n.01",
        ("television_set", "tv", "tv_set"),
        "a screen",
    ),
    "train": Category(
        1115,
        "train_(railroad_vehicle)",
        "train.n.01",
        ("train_(railroad_vehicle)", "railroad_train"),
        "it goes on rails",
    ),
}
"""Kind -> the same class in LVIS v1, with its id and names."""


def lvis_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Return the request to build `<root>/LVIS`.

    As in LVIS, the end of `coco_url` is the path of an image, and some images of val are in
    train2017. Annotations are complete: all categories that are not in an image are in its
    `neg_category_ids`, and `not_exhaustive_category_ids` is empty.

    Args:
        scenes: Split -> number of images; 40 or more cover each kind at least twice.
        seed: Equal seeds give equal files.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, LVIS_SPLITS, "LVIS")
    fill = partial(_fill, counts=counts, seed=seed)
    return Request((_FOLDER,), describe(counts, _SIZE, seed), fill)


def draw_lvis(seed: int, split: str, index: int) -> Scene:
    """Draw the scene of an image from the dataset's seed, the split and the index in the split."""
    rng = np.random.default_rng((_LVIS, seed, LVIS_SPLITS.index(split), index))
    return draw_varied(rng, _SIZE, index)


def _fill(
    building: Path,
    advance: Callable[[], None],
    counts: Mapping[str, int],
    seed: int,
) -> None:
    """Draw every split and write its annotations."""
    folder = building / _FOLDER
    for name in ("train2017", "val2017"):
        (folder / name).mkdir()
    image_id = 0
    for split in LVIS_SPLITS:
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(counts[split]):
            image_id += 1
            of_train = split == "train" or index % _FROM_TRAIN == _FROM_TRAIN - 1
            file = f"{'train' if of_train else 'val'}2017/{image_id:012d}.jpg"
            scene = draw_lvis(seed, split, index)
            write_jpeg(folder / file, scene.image)
            images.append(_image(image_id, file, scene))
            annotations += _annotations(image_id, scene, len(annotations) + 1)
            advance()
        content = {
            "info": {"description": "toy world in the layout of LVIS v1", "version": "v1"},
            "licenses": [],
            "categories": _categories(annotations),
            "images": images,
            "annotations": annotations,
        }
        write_json(folder / f"lvis_v1_{split}.json", content)


def _image(image_id: int, file: str, scene: Scene) -> dict[str, Any]:
    present = {thing.kind for thing in scene.things}
    absent = [category.id for kind, category in LVIS_CATEGORIES.items() if kind not in present]
    return {
        "id": image_id,
        "height": scene.image.shape[0],
        "width": scene.image.shape[1],
        "coco_url": f"{_URL}/{file}",
        "flickr_url": "",
        "date_captured": "",
        "license": 0,
        "neg_category_ids": absent,
        "not_exhaustive_category_ids": [],
    }


def _annotations(image_id: int, scene: Scene, first: int) -> list[dict[str, Any]]:
    """Return one annotation per thing, numbered from `first`; areas in pixels, boxes x, y, w, h."""
    return [
        {
            "id": first + number,
            "image_id": image_id,
            "category_id": LVIS_CATEGORIES[thing.kind].id,
            **outline(thing),
        }
        for number, thing in enumerate(scene.things)
    ]


def _categories(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the categories in order of id, with their numbers of images and annotations."""
    categories = []
    for category in sorted(LVIS_CATEGORIES.values()):
        images = [a["image_id"] for a in annotations if a["category_id"] == category.id]
        categories.append(
            {
                "id": category.id,
                "name": category.name,
                "synset": category.synset,
                "synonyms": list(category.synonyms),
                "def": category.meaning,
                "frequency": "f",
                "image_count": len(set(images)),
                "instance_count": len(images),
            }
        )
    return categories
