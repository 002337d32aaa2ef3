"""All toy datasets: their sizes, their folder, and the function that writes them."""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from datamodules.datasets.files import cache_folder
from datamodules.toy.writers.coco import coco_request
from datamodules.toy.writers.folder import MANIFEST, WORLD, Request, build_folders, is_built
from datamodules.toy.writers.label_maps import label_maps_request
from datamodules.toy.writers.lvis import lvis_request
from datamodules.toy.writers.own import own_request
from datamodules.toy.writers.phrasecut import phrasecut_request
from datamodules.toy.writers.refcoco import refcoco_request
from datamodules.toy.writers.voc import voc_request
from datamodules.toy.writers.walls import walls_request

log = logging.getLogger(__name__)


class Dataset(NamedTuple):
    """A toy dataset."""

    request: Callable[..., Request]
    """function that takes the number of images per split, the seed and, for the walls, the root"""
    scenes: dict[str, int]
    """split -> number of images in the default world"""
    minimum: int = 40
    """minimum number of images per split; 40 show each kind of thing at least twice"""


DATASETS = {
    "PhraseCut": Dataset(
        phrasecut_request, {"train": 2000, "val": 200, "test": 200, "miniv": 20}, 20
    ),
    "VOC2012": Dataset(voc_request, {"train": 300, "val": 150}),
    "COCO2014": Dataset(coco_request, {"train": 300, "val": 200}),
    "RefCOCO": Dataset(refcoco_request, {"train": 300}),  # the same photos as COCO2014's
    "LVIS": Dataset(lvis_request, {"train": 100, "val": 150}),
    "own": Dataset(own_request, {"all": 300}),
    "walls": Dataset(walls_request, {"train": 120, "valid": 40, "test": 40}, 20),
    "label_maps": Dataset(label_maps_request, {"train": 120, "val": 80}),
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
    share = scenes / DATASETS["PhraseCut"].scenes["train"]
    counts = {
        name: {
            split: max(dataset.minimum, round(share * count))
            for split, count in dataset.scenes.items()
        }
        for name, dataset in DATASETS.items()
    }
    counts["PhraseCut"]["train"] = scenes
    return counts


def write_toy_world(
    root: Path, scenes: int = 2000, seed: int = 0, progress: bool = True
) -> Mapping[Path, int]:
    """Write all datasets that do not exist yet.

    If `root` is `toy_root()` and a dataset is missing, earlier versions of the toy world are
    removed from the cache.

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
    requests = [
        # the config overlay of the walls contains the root
        DATASETS[name].request(counts, seed, *((root,) if name == "walls" else ()))
        for name, counts in scaled(scenes).items()
    ]
    # raises FileExistsError before any dataset is drawn
    complete = all([is_built(root, request) for request in requests])
    if root == toy_root() and not complete:
        _remove_earlier_versions()
    return {
        build_folders(root, request, progress): sum(request.manifest["scenes"].values())
        for request in requests
    }


def _remove_earlier_versions() -> None:
    """Remove earlier versions of the toy world from the cache.

    A version is kept if its top level contains anything else than datasets of the toy world and
    hidden files.
    """
    for version in range(WORLD):
        folder = toy_root().with_name(f"toy_world_{version}")
        datasets = list(folder.glob("[!.]*"))  # hidden files are locks and drafts of `drafting`
        if datasets and all(any(dataset.rglob(MANIFEST)) for dataset in datasets):
            log.warning("removing %s, an earlier version of the toy world", folder)
            shutil.rmtree(folder, ignore_errors=True)
