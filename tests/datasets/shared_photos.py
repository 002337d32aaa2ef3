"""Datasets that share photos, for tests."""

import json
from pathlib import Path

from tests.miniature import write_miniature

SHARED_COCO, SHARED_LVIS = [41, 42, 43, 44], [61, 62]
"""ids of photos in the validation splits of the miniature's COCO-20i and LVIS"""
ELSEWHERE = 581929
"""id of a photo that only PhraseCut has"""
TRAIN = [*SHARED_COCO, *SHARED_LVIS, ELSEWHERE, ELSEWHERE, None, None, None, None]
"""`coco_id` of PhraseCut's training photos"""


def write_shared(root: Path, miniature: Path) -> Path:
    """Write a PhraseCut that shares photos with COCO-20i and LVIS; return `root`.

    Args:
        root: folder to write to.
        miniature: the other datasets, which are linked.
    """
    folder = write_miniature(root, {"train": 12, "val": 5, "test": 5, "miniv": 2})
    file = folder / "image_data_split.json"
    table = json.loads(file.read_text())
    for row, number in zip(table, [*TRAIN, 45, 46], strict=False):  # 45 and 46 are in val
        row["coco_id"] = number
    file.write_text(json.dumps(table))
    for name in ("COCO2014", "splits", "LVIS"):
        (root / name).symlink_to(miniature / name)
    return root
