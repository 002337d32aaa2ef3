"""Writer of small PhraseCut folders for tests."""

import json
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

SIZE = (24, 32)  # height, width
SQUARE = [[[[4.0, 4.0], [20.0, 4.0], [20.0, 20.0], [4.0, 20.0]]]]
"""one instance with one polygon"""


def task(number: int, image: object = 1, phrase: object = "red square", polygons=SQUARE) -> dict:
    return {
        "task_id": f"{image}__{number}",
        "image_id": image,
        "phrase": phrase,
        "Polygons": polygons,
    }


def write_phrasecut(
    root: Path,
    tasks: object,
    photos: Iterable[int] = (1, 2, 3),
    table: str = "image_data_split.json",
    split: str = "train",
) -> Path:
    """Write VGPhraseCut_v0 with black photos below `root`, and return its folder."""
    folder = root / "VGPhraseCut_v0"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    height, width = SIZE
    rows = [{"image_id": photo, "height": height, "width": width} for photo in photos]
    for photo in photos:
        Image.new("RGB", (width, height)).save(folder / "images" / f"{photo}.jpg")
    (folder / table).write_text(json.dumps(rows))
    (folder / f"refer_{split}.json").write_text(json.dumps(tasks))
    return folder
