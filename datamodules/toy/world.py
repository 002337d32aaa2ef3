"""All toy datasets: their sizes, their folder, and the function that writes them."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from datamodules.datasets.files import cache_folder
from datamodules.toy.writers.coco import coco_request
from datamodules.toy.writers.folder import WORLD, Request, build_folders, is_built
from datamodules.toy.writers.lvis import lvis_request
from datamodules.toy.writers.own import own_request
from datamodules.toy.writers.phrasecut import phrasecut_request
from datamodules.toy.writers.voc import voc_request
from datamodules.toy.writers.walls import walls_request

SCENES: dict[str, dict[str, int]] = {
    "PhraseCut": {"train": 2000, "val": 200, "test": 200, "miniv": 20},
    "VOC2012": {"train": 300, "val": 150},
    "COCO2014": {"train": 300, "val": 200},
    "LVIS": {"train": 100, "val": 150},
    "own": {"all": 300},
    "walls": {"train": 120, "valid": 40, "test": 40},
}
"""dataset -> split -> number of images in the default world"""
_MIN_IMAGES = {"PhraseCut": 20, "VOC2012": 40, "COCO2014": 40, "LVIS": 40, "own": 40, "walls": 20}
"""dataset -> minimum number of images per split; 40 show each kind of thing at least twice"""
_Writer = Callable[[Mapping[str, int], int], Request]
_REQUESTS: dict[str, _Writer] = {
    "PhraseCut": phrasecut_request,
    "VOC2012": voc_request,
    "COCO2014": coco_request,
    "LVIS": lvis_request,
    "own": own_request,
}


def toy_root() -> Path:
    """Return the cache folder of this version of the toy datasets; it may not exist yet."""
    return cache_folder() / f"toy_world_{WORLD}"


def scaled(scenes: int) -> dict[str, dict[str, int]]:
    """Return the number of images of each dataset and split in a world of another size.

    Args:
        scenes: Number of training images of PhraseCut, at least 1. All other splits are scaled in
            proportion, to at least 20 images for PhraseCut and the walls, and 40 for the others.

    Raises:
        ValueError: If `scenes` is less than 1.
    """
    if scenes < 1:
        raise ValueError(f"scenes must be at least 1, got {scenes}")
    share = scenes / SCENES["PhraseCut"]["train"]
    counts = {
        name: {
            split: max(_MIN_IMAGES[name], round(share * count)) for split, count in splits.items()
        }
        for name, splits in SCENES.items()
    }
    counts["PhraseCut"]["train"] = scenes
    return counts


def write_toy_world(
    root: Path, scenes: int = 2000, seed: int = 0, progress: bool = True
) -> Mapping[Path, int]:
    """Write all datasets that do not exist yet.

    Args:
        root: Folder of all datasets, created if missing.
        scenes: Number of training images of PhraseCut, see `scaled`.
        seed: Equal seeds give equal files.
        progress: Show progress bars.

    Returns:
        Folder of each dataset -> its number of images.

    Raises:
        FileExistsError: If a folder contains real data or a different toy world. Nothing is
            written in that case.
        ValueError: If `scenes` is less than 1 or `seed` is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    writers: dict[str, _Writer] = {**_REQUESTS, "walls": partial(walls_request, root=root)}
    requests = [writers[name](counts, seed) for name, counts in scaled(scenes).items()]
    for request in requests:
        is_built(root, request)  # raises FileExistsError before any dataset is drawn
    return {
        build_folders(root, request, progress): sum(request.manifest["scenes"].values())
        for request in requests
    }
