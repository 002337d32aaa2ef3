"""Toy VOC2012: scenes with label maps, and lists in the formats of PFENet and HSNet."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.scenes.scene import Scene
from datamodules.toy.writers.folder import Request, counts_of, describe, write_lines
from datamodules.toy.writers.pictures import (
    IGNORED,
    draw_varied,
    label_map,
    write_jpeg,
    write_labels,
)

VOC_SPLITS: tuple[str, ...] = ("train", "val")
VOC_LABELS: dict[str, int] = {kind: label for label, kind in enumerate(PASCAL_KINDS, 1)}
"""Kind -> label, 1 to 20; the kinds are Pascal's classes in Pascal's order."""
LEAST_PIXELS = 2 * 32 * 32
"""minimum pixels of a class for an image to be in HSNet's list of the class"""
_FOLDER, _LISTS = "VOC2012", "lists"
_SIZE = 240, 320  # height and width in pixels, large enough for 2048 pixels of any class
_VOC = 0x70C12  # first part of every generator's seed, unique to this dataset
_BLOCK = 5  # classes per fold


def voc_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Return the request to build `<root>/VOC2012` and `<root>/lists`.

    `SegmentationClass` has mode P and Pascal's palette, as published. `SegmentationClassAug` has
    the same labels in mode L, as used by PFENet and HSNet. Every training image is in train.txt and
    in train_aug.txt. PFENet's lists contain all images of a split. HSNet's lists contain an image
    once for each class with at least 2048 pixels; the file of fold k has classes 5k + 1 to 5k + 5.

    Args:
        scenes: Split -> number of images; with 40 or more, HSNet's lists have each class at least
            twice.
        seed: Equal seeds give equal files.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, VOC_SPLITS, "VOC2012")
    fill = partial(_fill, counts=counts, seed=seed)
    return Request((_LISTS, _FOLDER), describe(counts, _SIZE, seed), fill)


def draw_voc(seed: int, split: str, index: int) -> Scene:
    """Draw the scene of an image from the dataset's seed, the split and the index in the split."""
    rng = np.random.default_rng((_VOC, seed, VOC_SPLITS.index(split), index))
    return draw_varied(rng, _SIZE, index, _listed)


def voc_labels(scene: Scene) -> NDArray[np.uint8]:
    """Return (H, W) labels: 0 for background, 1 to 20 for things, 255 on the border of things."""
    return label_map(scene, VOC_LABELS, border=True)


def voc_palette() -> bytes:
    """Return Pascal's 256 RGB colours.

    Bit 0 of a label is the highest bit of red, bit 1 that of green and bit 2 that of blue. Bits 3
    to 5 are the second highest bits of the three channels, and so on.
    """
    labels = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            bit = labels >> (3 * place + channel) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours.tobytes()


def _listed(scene: Scene, kind: str) -> bool:
    return int((voc_labels(scene) == VOC_LABELS[kind]).sum()) >= LEAST_PIXELS


def _fill(
    building: Path,
    advance: Callable[[], None],
    counts: Mapping[str, int],
    seed: int,
) -> None:
    """Draw every split and write its lists."""
    folder, palette = building / _FOLDER, voc_palette()
    for name in ("JPEGImages", "SegmentationClass", "SegmentationClassAug"):
        (folder / name).mkdir()
    ids: dict[str, list[str]] = {}
    number = 0
    for split in VOC_SPLITS:
        areas: dict[str, Counter[int]] = {}
        for index in range(counts[split]):
            number += 1
            image_id = f"2007_{number:06d}"
            scene = draw_voc(seed, split, index)
            labels = voc_labels(scene)
            write_jpeg(folder / "JPEGImages" / f"{image_id}.jpg", scene.image)
            write_labels(folder / "SegmentationClass" / f"{image_id}.png", labels, palette)
            write_labels(folder / "SegmentationClassAug" / f"{image_id}.png", labels)
            areas[image_id] = Counter(labels[(labels > 0) & (labels < IGNORED)].tolist())
            advance()
        ids[split] = list(areas)
        _write_hsnet(building / _LISTS / "hsnet" / "pascal", split, areas)
    _write_lists(folder / "ImageSets" / "Segmentation", building / _LISTS / "pfenet", ids)


def _write_lists(sets: Path, pfenet: Path, ids: Mapping[str, Sequence[str]]) -> None:
    """Write VOC's lists, the list of the augmented training set, and PFENet's lists."""
    pairs = {
        split: [(f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png") for name in names]
        for split, names in ids.items()
    }
    write_lines(sets / "train.txt", ids["train"])
    write_lines(sets / "val.txt", ids["val"])
    write_lines(sets / "trainval.txt", sorted((*ids["train"], *ids["val"])))
    write_lines(sets / "train_aug.txt", [f"/{photo} /{mask}" for photo, mask in pairs["train"]])
    for name, split in (
        ("voc_original_train", "train"),
        ("voc_sbd_merge_noduplicate", "train"),
        ("val", "val"),
    ):
        write_lines(pfenet / f"{name}.txt", [f"{photo} {mask}" for photo, mask in pairs[split]])


def _write_hsnet(folder: Path, split: str, areas: Mapping[str, Counter[int]]) -> None:
    """Write one file per fold, sorted by class for training and by image for validation."""
    for fold in range(len(PASCAL_KINDS) // _BLOCK):
        block = range(_BLOCK * fold + 1, _BLOCK * fold + _BLOCK + 1)
        found = [
            (name, label)
            for name, pixels in areas.items()
            for label in block
            if pixels[label] >= LEAST_PIXELS
        ]
        if split == "train":
            found.sort(key=lambda entry: entry[1])
        folder_of_split = folder / ("trn" if split == "train" else "val")
        lines = [f"{name}__{label:02d}" for name, label in found]
        write_lines(folder_of_split / f"fold{fold}.txt", lines)
