"""COCO's ids of photos, which the releases of 2014 and 2017 share."""

import os
import re
from collections.abc import Iterable

import numpy as np

from datamodules.datasets.phrase_table import Rows

NO_ID = -1
"""id of a photo that is not COCO's"""
_NAME = re.compile(r"(?:COCO_(?:(?:train|val|test)2014|test2015)_)?0{6}([0-9]{6})\.jpg")


def coco_id(file: str) -> int:
    """Return the COCO id in the name of a photo file, or -1 if the name is not one of COCO's.

    COCO's names are "COCO_val2014_000000000042.jpg" in the release of 2014 and "000000000042.jpg"
    in that of 2017. Ids have at most six digits: "202401311530.jpg" is not a name of COCO, and
    neither are "42.jpg" and "000000000042.png".

    Args:
        file: path or name of the file.
    """
    match = _NAME.fullmatch(os.path.basename(file))
    return int(match[1]) or NO_ID if match else NO_ID


def coco_ids(files: Iterable[str]) -> Rows:
    """Return the COCO id of each file, (files,) int64; see `coco_id`."""
    return np.array([coco_id(file) for file in files], np.int64)
