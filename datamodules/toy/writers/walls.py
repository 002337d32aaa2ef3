"""Toy Roboflow exports: photos of walls with cracks, and of walls with taped joints."""

import hashlib
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from datamodules.toy.writers.folder import Request, counts_of, describe, write_json
from datamodules.toy.writers.pictures import flat_polygons, write_jpeg

EXPORTS: dict[str, tuple[str, str]] = {
    "cracks": ("wall-cracks", "crack"),
    "taping": ("objects", "Drywall-Join"),
}
"""folder of an export -> its root category, which no annotation uses, and its category"""
WALL_SPLITS: tuple[str, ...] = ("train", "valid", "test")
_FOLDER = "walls"
_SIDE = 320  # pixels
_WALLS = 0x3A115  # first part of every generator's seed, unique to this dataset
_PHRASES = {
    "crack": ["black crack", "black line"],
    "Drywall-Join": ["white joint", "white tape"],
}
_BOXES_ONLY = 25  # one of so many cracks has a box and no polygon
_HEADER = """\
# Config overlay: fine-tune on the two exports in this folder. Append it last.
#   python -m clipseg_pl fit --config experiments/pc_plus.yaml \\
#     --config experiments/fine_tune.yaml --config experiments/toy.yaml --config {file} \\
#     --model.init_decoder toy
# The colours in the phrases tell the classes apart: the toy CLIP knows neither "crack" nor "joint".
"""

Grey = NDArray[np.float32]
"""(320, 320), 0 to 255"""


class Wall(NamedTuple):
    """Photo of a wall.

    Attributes:
        image: (320, 320, 3) uint8 RGB.
        masks: (320, 320) bool of each crack or taped joint; empty for clean walls. Taped joints are
            rectangles.
    """

    image: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]]


def walls_request(scenes: Mapping[str, int], seed: int, root: Path) -> Request:
    """Return the request to build `<root>/walls`, two exports and a config overlay.

    `cracks` and `taping` are COCO exports as downloaded from Roboflow: a folder per split, with the
    photos and `_annotations.coco.json`. Cracks have polygons, a few of them only boxes; taped
    joints have only boxes. About 15 % of the photos are clean. `own.yaml` is the config overlay to
    fine-tune on both.

    Args:
        scenes: Split ("train", "valid", "test") -> number of images, half of them in each export.
        seed: Equal seeds give equal photos and annotations.
        root: Folder of all datasets; `own.yaml` contains it as given, absolute or relative.

    Raises:
        ValueError: If `scenes` has an unknown split.
    """
    counts = counts_of(scenes, WALL_SPLITS, _FOLDER)
    fill = partial(_fill, counts=counts, seed=seed, overlay=_overlay(root / _FOLDER))
    return Request((_FOLDER,), describe(counts, (_SIDE, _SIDE), seed), fill)


def draw_wall(seed: int, export: str, split: str, index: int) -> Wall:
    """Draw a photo from the dataset's seed, the export, the split and the index in the split."""
    key = (_WALLS, seed, list(EXPORTS).index(export), WALL_SPLITS.index(split), index)
    rng = np.random.default_rng(key)
    tint, wall, masks = rng.uniform(-10, 10, 3), _plaster(rng), []
    clean = (3 * index + 10) % 20 < 3  # 3 of 20 photos
    for _ in range(0 if clean else int(rng.integers(1, 4))):
        wall, mask = (_add_crack if export == "cracks" else _add_joint)(wall, rng)
        masks.append(mask)
    wall += 3 * rng.standard_normal(wall.shape, np.float32)  # grain
    return Wall((wall[..., None] + tint).clip(0, 255).astype(np.uint8), masks)


def _fill(
    building: Path,
    advance: Callable[[], None],
    counts: Mapping[str, int],
    seed: int,
    overlay: str,
) -> None:
    """Draw every photo and write its annotations."""
    number = 1000
    for export in EXPORTS:
        for split in WALL_SPLITS:
            folder = building / _FOLDER / export / split
            folder.mkdir(parents=True)
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            count = (counts[split] + (export == "cracks")) // 2
            for index in range(count):
                number += 1
                wall = draw_wall(seed, export, split, index)
                images.append(_image(number, index, f"{seed} {number}"))
                write_jpeg(folder / images[-1]["file_name"], wall.image)
                for mask in wall.masks:
                    annotations.append(_annotation(export, index, len(annotations), mask))
                advance()
            write_json(folder / "_annotations.coco.json", _content(export, images, annotations))
    (building / _FOLDER / "own.yaml").write_text(overlay, encoding="utf-8")


def _image(number: int, index: int, key: str) -> dict[str, Any]:
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    return {
        "id": index,
        "license": 1,
        "file_name": f"IMG_{number}_jpg.rf.{digest}.jpg",
        "height": _SIDE,
        "width": _SIDE,
        "date_captured": "2026-01-01T00:00:00+00:00",
        "extra": {"name": f"IMG_{number}.JPG"},
    }


def _annotation(export: str, image: int, number: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    has_polygons = export == "cracks" and number % _BOXES_ONLY != 7
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [x, y, width, height],
        "area": width * height,  # of the box, as Roboflow writes it
        "segmentation": flat_polygons(mask) if has_polygons else [],
        "iscrowd": 0,
    }


def _content(
    export: str, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    root, name = EXPORTS[export]
    return {
        "info": {"year": "2026", "version": "1", "description": "Drawn by clipseg_pl"},
        "licenses": [{"id": 1, "url": "", "name": "Public Domain"}],
        "categories": [
            {"id": 0, "name": root, "supercategory": "none"},
            {"id": 1, "name": name, "supercategory": root},
        ],
        "images": images,
        "annotations": annotations,
    }


def _overlay(folder: Path) -> str:
    arguments = {
        "root": folder.as_posix(),
        "train": {"table": list(EXPORTS)},
        "boxes": "rectangles",
        "negatives_across_tables": True,  # a wall has either cracks or joints
        "phrases": _PHRASES,
    }
    class_path = "datamodules.image_folder.ImageFolderDataModule"
    content = {"data": {"class_path": class_path, "init_args": arguments}}
    header = _HEADER.format(file=shlex.quote((folder / "own.yaml").as_posix()))
    return header + yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _plaster(rng: np.random.Generator) -> Grey:
    """Draw an empty wall of random brightness, with light from one side."""
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, 30)
    across = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    light = fall * (across * np.cos(angle) + across[:, None] * np.sin(angle))
    coarse = 8 * rng.standard_normal((_SIDE // 4, _SIDE // 4), np.float32)
    bumps = cv2.resize(coarse, (_SIDE, _SIDE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(rng.uniform(95, 215) + light + bumps, np.float32)


def _add_crack(wall: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """Draw a dark line of 3 to 14 pixels that wanders over the wall; return its mask, too."""
    steps = int(rng.integers(12, 45))
    turns = rng.normal(0, 0.3, steps) + rng.normal(0, 0.05)
    headings = rng.uniform(0, 2 * np.pi) + np.cumsum(turns)
    start = rng.uniform(0.15, 0.85, 2) * _SIDE
    points = start + np.cumsum(6 * np.stack([np.cos(headings), np.sin(headings)], 1), 0)
    thickness = 3 + 11 * rng.beta(1, 2.5)
    widths = np.clip(thickness * rng.uniform(0.8, 1.2, steps), 3, 14).round().astype(int)
    drawn = np.zeros((_SIDE, _SIDE), np.uint8)
    whole = points.round().astype(int).tolist()
    for first, second, width in zip(whole[:-1], whole[1:], widths[1:].tolist(), strict=True):
        cv2.line(drawn, first, second, 255, width)
    return _blend(wall, 25, drawn > 0, rng.uniform(0.5, 0.85)), drawn > 0


def _add_joint(wall: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """Draw a brighter or darker band, upright or level; return its mask, too."""
    width = int(rng.integers(16, 45))
    offset = int(rng.integers(0, _SIDE - width))
    start, length = 0, _SIDE
    if rng.random() < 0.4:  # the tape ends on the wall
        length = int(rng.integers(60, 220))
        start = int(rng.integers(0, _SIDE - length))
    mask = np.zeros((_SIDE, _SIDE), np.bool_)
    mask[start : start + length, offset : offset + width] = True
    if rng.random() < 0.5:
        mask = mask.T.copy()
    step = float(rng.choice((-1, 1)) * rng.uniform(22, 45))
    smooth = cv2.blur(wall, (15, 15))
    return _blend(wall, smooth + step + 0.3 * (wall - smooth), mask, 1), mask


def _blend(wall: Grey, paint: Grey | float, mask: NDArray[np.bool_], opacity: float) -> Grey:
    """Paint on a wall, with soft edges."""
    share = opacity * cv2.GaussianBlur(mask.astype(np.float32), (3, 3), 0.7)
    return np.asarray(wall + share * (paint - wall), np.float32)
