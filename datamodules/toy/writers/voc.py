"""Toy VOC2012: scenes labelled pixel by pixel, with the lists of PFENet and HSNet beside them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datamodules.toy.scenes.kinds import KINDS
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
VOC_LABELS: dict[str, int] = {kind: label for label, kind in enumerate(KINDS, 1)}
"""Kind -> label, 1 to 20: the kinds are Pascal's and stand in its order."""
LEAST_PIXELS = 2 * 32 * 32
"""pixels of a class from which HSNet's lists name an image for it"""
_FOLDER, _LISTS = "VOC2012", "lists"
_SIZE = 240, 320  # height and width in pixels: large enough for 2048 of any class
_VOC = 0x70C12  # opens the generators' seeds: nobody else draws these scenes
_BLOCK = 5  # classes of a fold


def voc_request(scenes: Mapping[str, int], seed: int) -> Request:
    """Asks for `<root>/VOC2012` and `<root>/lists`.

    `SegmentationClass` has mode P and Pascal's palette, as published; `SegmentationClassAug` has
    the same labels in mode L, as PFENet and HSNet read them. Every training image stands in
    train.txt and in train_aug.txt. PFENet's lists name all images of a split. HSNet's name an image
    for each class of which it has at least 2048 pixels; fold file k holds classes 5k + 1 to 5k + 5.

    Args:
        scenes: Split -> number of pictures; from 40 on, each class is in HSNet's lists twice.
        seed: Equal seeds give equal files.

    Raises:
        ValueError: VOC has no such split.
    """
    counts = counts_of(scenes, VOC_SPLITS, "VOC2012")
    fill = partial(_fill, counts=counts, seed=seed)
    return Request((_LISTS, _FOLDER), describe(counts, _SIZE, seed), fill)


def draw_voc(seed: int, split: str, index: int) -> Scene:
    """The scene of an image: a function of the dataset's seed, the split and the index in it."""
    rng = np.random.default_rng((_VOC, seed, VOC_SPLITS.index(split), index))
    return draw_varied(rng, _SIZE, index, _listed)


def voc_labels(scene: Scene) -> NDArray[np.uint8]:
    """(H, W) labels: 0 background, 1 to 20, and 255 on the border of things."""
    return label_map(scene, VOC_LABELS, border=True)


def voc_palette() -> bytes:
    """Pascal's 256 RGB colours: the bits of a label, dealt in turn to the channels' high bits."""
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
    """Draws every split and writes its lists."""
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
    """VOC's own lists, that of the augmented training set, and PFENet's."""
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
    """One file a fold, by class in training and by image in validation, as published."""
    for fold in range(len(KINDS) // _BLOCK):
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
