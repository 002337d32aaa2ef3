"""Miniature PhraseCut: coloured squares and discs on grey, in the published layout."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SHAPES = ("square", "disc")
SIZE = (60, 80)  # height, width


def write_miniature(root: Path, scenes: dict[str, int], seed: int = 0) -> Path:
    """Write a dataset to `root`/VGPhraseCut_v0 and return this folder.

    Every photo shows two objects of different colours, side by side. It has three phrases: colour
    and shape of each object ("red disc"), and the colour of one of them.

    Args:
        root: folder of datasets.
        scenes: number of photos per split.
        seed: seed of the scenes.
    """
    rng = np.random.default_rng(seed)
    folder = root / "VGPhraseCut_v0"
    (folder / "images").mkdir(parents=True)
    table, image_id = [], 1000
    for split, count in scenes.items():
        tasks = []
        for _ in range(count):
            image_id += 1
            pixels = np.full((*SIZE, 3), 128, np.uint8) + rng.integers(0, 9, (*SIZE, 3), np.uint8)
            colours = rng.permutation(list(COLOURS))[:2].tolist()
            for left, colour in zip((5, 45), colours, strict=True):
                shape = str(rng.choice(SHAPES))
                polygon = _polygon(shape, left, int(rng.integers(5, 25)), 28)
                pixels[_inside(polygon)] = COLOURS[colour]
                tasks.append(_task(image_id, len(tasks), f"{colour} {shape}", polygon))
            tasks.append(_task(image_id, len(tasks), colour, polygon))
            photo = Image.fromarray(pixels)
            # some grayscale photos, like in Visual Genome
            (photo.convert("L") if image_id % 7 == 0 else photo).save(
                folder / "images" / f"{image_id}.jpg", quality=95
            )
            row = {"image_id": image_id, "height": SIZE[0], "width": SIZE[1], "split": split}
            table.append({**row, "coco_id": None, "flickr_id": None, "url": ""})
        (folder / f"refer_{split}.json").write_text(json.dumps(tasks))
    (folder / "image_data_split.json").write_text(json.dumps(table))
    return folder


def _polygon(shape: str, left: int, top: int, side: int) -> list[list[float]]:
    if shape == "square":
        corners = ((0, 0), (1, 0), (1, 1), (0, 1))
        return [[left + side * x, top + side * y] for x, y in corners]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    centre = side / 2
    return [[left + centre + centre * np.cos(a), top + centre + centre * np.sin(a)] for a in angles]


def _inside(polygon: list[list[float]]) -> np.ndarray:
    """Return the mask of pixels whose centre is inside a convex polygon."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    inside = np.ones(SIZE, bool)
    for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        inside &= (x1 - x0) * (rows - y0) - (y1 - y0) * (columns - x0) >= 0
    return inside


def _task(image_id: int, number: int, phrase: str, polygon: list[list[float]]) -> dict:
    xs, ys = zip(*polygon, strict=True)
    box = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
    return {
        "task_id": f"{image_id}__{image_id}{number}",
        "image_id": image_id,
        "ann_ids": [image_id * 10 + number],
        "instance_boxes": [box],
        "Polygons": [[polygon]],
        "phrase": phrase,
        "phrase_structure": {
            "name": phrase.split()[-1],
            "attributes": phrase.split()[:-1],
            "relation_ids": [],
            "relation_descriptions": [],
            "type": "attribute" if " " in phrase else "name",
        },
    }
