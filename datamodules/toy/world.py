"""The toy world on disk, written when it is first asked for."""

from collections.abc import Callable, Mapping
from pathlib import Path

from datamodules.datasets.files import cache_folder
from datamodules.toy.writers.coco import coco_request
from datamodules.toy.writers.folder import WORLD, Request, build_folders, is_built
from datamodules.toy.writers.lvis import lvis_request
from datamodules.toy.writers.own import own_request
from datamodules.toy.writers.phrasecut import phrasecut_request
from datamodules.toy.writers.voc import voc_request

SCENES: dict[str, dict[str, int]] = {
    "PhraseCut": {"train": 2000, "val": 80, "test": 80, "miniv": 20},
    "VOC2012": {"train": 300, "val": 150},
    "COCO2014": {"train": 300, "val": 200},
    "LVIS": {"train": 100, "val": 150},
    "own": {"all": 300},
}
"""dataset -> split -> pictures of the default world"""
_LEAST = {"PhraseCut": 20, "VOC2012": 40, "COCO2014": 40, "LVIS": 40, "own": 40}
"""pictures of a split that a small world has all the same; forty show each kind twice"""
_REQUESTS: dict[str, Callable[[Mapping[str, int], int], Request]] = {
    "PhraseCut": phrasecut_request,
    "VOC2012": voc_request,
    "COCO2014": coco_request,
    "LVIS": lvis_request,
    "own": own_request,
}


def toy_root() -> Path:
    """Folder of the toy datasets, whether they are there or not; another for each version."""
    return cache_folder() / f"toy_world_{WORLD}"


def scaled(scenes: int) -> dict[str, dict[str, int]]:
    """Pictures of each dataset and split in a world of another size.

    Args:
        scenes: Training pictures of PhraseCut, at least 1; all others are in proportion, but there
            are at least 20 in a split of PhraseCut and 40 elsewhere.

    Raises:
        ValueError: Fewer than one scene.
    """
    if scenes < 1:
        raise ValueError(f"a world has at least 1 scene, not {scenes}")
    share = scenes / SCENES["PhraseCut"]["train"]
    counts = {
        name: {split: max(_LEAST[name], round(share * count)) for split, count in splits.items()}
        for name, splits in SCENES.items()
    }
    counts["PhraseCut"]["train"] = scenes
    return counts


def write_toy_world(
    root: Path, scenes: int = 2000, seed: int = 0, progress: bool = True
) -> Mapping[Path, int]:
    """Writes all datasets that are not there yet; bars tell how far it is.

    Args:
        root: Folder of all datasets, made if missing.
        scenes: Training pictures of PhraseCut, see `scaled`.
        seed: Equal seeds give equal files.
        progress: Show the bars.

    Returns:
        Folder of each dataset -> number of its pictures.

    Raises:
        FileExistsError: A folder holds something else: real data, or another toy world. Nothing
            has been written then.
        ValueError: Fewer than one scene, or a negative seed.
    """
    if seed < 0:
        raise ValueError(f"a seed is 0 or more, not {seed}")
    requests = [_REQUESTS[name](counts, seed) for name, counts in scaled(scenes).items()]
    for request in requests:
        is_built(root, request)  # all are checked before the first is drawn
    return {
        build_folders(root, request, progress): sum(request.manifest["scenes"].values())
        for request in requests
    }
