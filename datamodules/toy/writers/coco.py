"""Toy COCO-20i: scenes labelled with COCO's classes, with the folders and lists of HSNet."""

import pickle
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from datamodules.toy.scenes.scene import Scene
from datamodules.toy.writers.folder import Request, counts_of, describe
from datamodules.toy.writers.pictures import draw_varied, label_map, write_jpeg, write_labels

COCO_SPLITS: tuple[str, ...] = ("train", "val")
COCO_CLASSES: dict[str, int] = {
    "aeroplane": 4, "bicycle": 1, "bird": 14, "boat": 8, "bottle": 39, "bus": 5, "car": 2,
    "cat": 15, "chair": 56, "cow": 19, "diningtable": 60, "dog": 16, "horse": 17, "motorbike": 3,
    "person": 0, "pottedplant": 58, "sheep": 18, "sofa": 57, "train": 6, "tvmonitor": 62,
}  # fmt: skip
"""Kind -> index of its class among COCO's 80 classes; its label in label maps is index + 1."""
_FOLDER, _LISTS = "COCO2014", "splits"
_SIZE = 160, 200  # height and width in pixels
_COCO = 0xC0C020  # first part of every generator's seed, unique to this dataset
_FOLDS, _CLASSES = 4, 80
_PROTOCOL = 4  # pickle protocol of the published lists; Python's default depends on its version


def coco_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Return the request to build `<root>/COCO2014` and `<root>/splits/coco`.

    Label maps are PNG files of mode L: 0 is background, other pixels have class + 1, and no pixel
    is ignored. The list of fold f is a pickled dict, class (0 to 79) -> paths of the images with
    at least one pixel of the class. In "val", only the classes f, f + 4, ... have images; in "trn",
    only the others. A class without images has an empty list.

    Args:
        scenes: Split -> number of images; 40 or more cover each kind at least twice.
        seed: Equal seeds give equal files.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, COCO_SPLITS, "COCO2014")
    fill = partial(_fill, counts=counts, seed=seed)
    return Request((_LISTS, _FOLDER), describe(counts, _SIZE, seed), fill)


def draw_coco(seed: int, split: str, index: int) -> Scene:
    """Draw the scene of an image from the dataset's seed, the split and the index in the split."""
    rng = np.random.default_rng((_COCO, seed, COCO_SPLITS.index(split), index))
    return draw_varied(rng, _SIZE, index)


def _fill(
    building: Path,
    advance: Callable[[], None],
    counts: Mapping[str, int],
    seed: int,
) -> None:
    """Draw every split and write its lists."""
    labels_of = {kind: place + 1 for kind, place in COCO_CLASSES.items()}
    number = 0
    for split in COCO_SPLITS:
        year = f"{split}2014"
        photos = building / _FOLDER / year
        masks = building / _FOLDER / "annotations" / year
        photos.mkdir(parents=True)
        masks.mkdir(parents=True)
        images: dict[int, list[str]] = {place: [] for place in range(_CLASSES)}
        for index in range(counts[split]):
            number += 1
            name = f"COCO_{year}_{number:012d}"
            scene = draw_coco(seed, split, index)
            labels = label_map(scene, labels_of)
            write_jpeg(photos / f"{name}.jpg", scene.image)
            write_labels(masks / f"{name}.png", labels)
            for label in np.unique(labels[labels > 0]).tolist():
                images[label - 1].append(f"{year}/{name}.jpg")
            advance()
        _write_folds(building / _LISTS / "coco", split, images)


def _write_folds(folder: Path, split: str, images: Mapping[int, list[str]]) -> None:
    """Write a pickle per fold: a quarter of the classes for validation, the others for training."""
    validation = split == "val"
    folder = folder / ("val" if validation else "trn")
    folder.mkdir(parents=True)
    for fold in range(_FOLDS):
        content = {
            place: list(names) if (place % _FOLDS == fold) == validation else []
            for place, names in images.items()
        }
        (folder / f"fold{fold}.pkl").write_bytes(pickle.dumps(content, _PROTOCOL))
