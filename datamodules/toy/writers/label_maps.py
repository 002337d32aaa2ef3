"""Toy label maps: the same scenes in the layouts of four benchmarks of semantic segmentation."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from datamodules.datasets.label_maps import published_labels
from datamodules.toy.language.words import NAMES, STUFF_NAMES
from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.scenes.scene import Scene
from datamodules.toy.writers.folder import Request, counts_of, describe, write_json
from datamodules.toy.writers.pictures import IGNORED, draw_varied, write_jpeg, write_labels

LABEL_SPLITS: tuple[str, ...] = ("train", "val")
_ADE, _COCO, _CITYSCAPES, _CONTEXT = (
    "ADEChallengeData2016",
    "coco-stuff",
    "cityscapes",
    "VOCdevkit",
)
_SIZE = 160, 200  # height and width in pixels
_LABELS = 0x1ABE1  # first part of every generator's seed, unique to these datasets
_OTHER = 1  # category of Pascal Context that is not one of the 59
_ADE_SPLITS = {"train": "training", "val": "validation"}


def label_maps_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Return the request to build toy versions of four benchmarks from the same scenes.

    `ADEChallengeData2016` (ADE20K-150), `coco-stuff`, `cityscapes` and `VOCdevkit` (Pascal Context)
    have the folders and file names of the published data. Pixels of things and stuff that the
    published dataset has no class for are not annotated. The sea of Pascal Context has a category
    that is not one of its 59 classes.

    Args:
        scenes: Split -> number of images; 40 or more cover each kind at least twice.
        seed: Equal seeds give equal files.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, LABEL_SPLITS, _ADE)
    fill = partial(_fill, counts=counts, seed=seed)
    parts = (_COCO, _CITYSCAPES, _CONTEXT, _ADE)
    return Request(parts, describe(counts, _SIZE, seed), fill)


def draw_labelled(seed: int, split: str, index: int) -> Scene:
    """Draw the scene of an image from the datasets' seed, the split and the index in the split."""
    rng = np.random.default_rng((_LABELS, seed, LABEL_SPLITS.index(split), index))
    return draw_varied(rng, _SIZE, index)


def values_of(dataset: str) -> dict[str, int]:
    """Return kind or stuff -> value in the label maps, for those that a dataset has a class for.

    Args:
        dataset: key of `published_labels`. The part of a class name after a hyphen is ignored
            ("wall-brick"); if several classes match, the lowest value is used.
    """
    value_of: dict[str, int] = {}
    for value, name in published_labels()[dataset].names.items():
        value_of.setdefault(name.partition("-")[0], value)
    words = {kind: (kind, *NAMES.get(kind, ())) for kind in PASCAL_KINDS} | STUFF_NAMES
    return {
        thing: min(value_of[word] for word in names if word in value_of)
        for thing, names in words.items()
        if not value_of.keys().isdisjoint(names)
    }


def paint_values(scene: Scene, values: Mapping[str, int], rest: int) -> NDArray[np.uint16]:
    """Return the label map of a scene, (H, W).

    Args:
        scene: The scene.
        values: Kind or stuff -> value.
        rest: Value of all other pixels.
    """
    labels = np.full(scene.image.shape[:2], rest, np.uint16)
    for name, region in scene.stuff.items():
        labels[region] = values.get(name, rest)
    for thing in scene.things:
        labels[thing.mask] = values.get(thing.kind, rest)
    return labels


def _fill(
    building: Path,
    advance: Callable[[], None],
    counts: Mapping[str, int],
    seed: int,
) -> None:
    """Draw every scene once, and write it in each layout."""
    ade, coco, cityscapes, context = (
        values_of(key)
        for key in ("ade20k_150", "coco_stuff_171", "cityscapes_19", "pascal_context_59")
    )
    context["sea"] = _OTHER
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for split in LABEL_SPLITS:
        for index in range(counts[split]):
            scene, number = draw_labelled(seed, split, index), len(images) + 1
            name = f"ADE_{split}_{index + 1:08}"
            folder = building / _ADE
            _write_jpeg(folder / "images" / _ADE_SPLITS[split] / f"{name}.jpg", scene)
            labels = paint_values(scene, ade, 0)
            _write_labels(folder / "annotations" / _ADE_SPLITS[split] / f"{name}.png", labels)
            folder, name = building / _COCO, f"{number:012}"
            _write_jpeg(folder / "images" / f"{split}2017" / f"{name}.jpg", scene)
            labels = paint_values(scene, coco, IGNORED)
            _write_labels(folder / "annotations" / f"{split}2017" / f"{name}.png", labels)
            folder, city = building / _CITYSCAPES, "toytown"
            name = f"{city}_{index:06}_000019"
            photo = folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(photo)
            labels = paint_values(scene, cityscapes, IGNORED)
            file = folder / "gtFine" / split / city / f"{name}_gtFine_labelTrainIds.png"
            _write_labels(file, labels)
            folder, name = building / _CONTEXT / "VOC2010", f"2008_{number:06}.jpg"
            _write_jpeg(folder / "JPEGImages" / name, scene)
            height, width = scene.image.shape[:2]
            image: dict[str, Any] = {"image_id": 2008000000 + number, "file_name": name}
            images.append({**image, "phase": split, "height": height, "width": width})
            found = _annotations(image["image_id"], paint_values(scene, context, 0))
            first = len(annotations) + 1
            annotations += ({"id": number, **one} for number, one in enumerate(found, first))
            advance()
    content = {"images": images, "annos_segmentation": annotations}
    write_json(building / _CONTEXT / "VOC2010" / "trainval_merged.json", content)


def _annotations(image_id: int, labels: NDArray[np.uint16]) -> Iterator[dict[str, Any]]:
    """Yield an annotation for each category in a label map."""
    for category in np.unique(labels[labels > 0]).tolist():
        region = coco_mask.encode(np.asfortranarray(labels == category, np.uint8))
        yield {
            "image_id": image_id,
            "category_id": category,
            "segmentation": {"size": region["size"], "counts": region["counts"].decode()},
        }


def _write_jpeg(file: Path, scene: Scene) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(file, scene.image)


def _write_labels(file: Path, labels: NDArray[np.uint16]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_labels(file, labels.astype(np.uint8))
