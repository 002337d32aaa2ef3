"""Pascal-5i: the episodes of a fold, by PFENet's rule or HSNet's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.datasets.episodes import Drawn, pfenet_episodes
from datamodules.datasets.labelled import LabelledPhotos, check_names, read_list
from datamodules.datasets.pascal_classes import VOC_CLASSES

CLASSES_OF_FOLD = 5
PFENET = "https://github.com/Jia-Research-Lab/PFENet (lists/pascal)"
HSNET = "https://github.com/juhongm999/hsnet (data/splits/pascal)"


def draw_pfenet(
    names: Sequence[str], photos: LabelledPhotos, classes: Sequence[int], shots: int, seed: int
) -> Drawn:
    """Every photo of a list that shows enough of a class, once.

    Counting the classes' pixels reads every listed label map (1449 in PFENet's list).

    Args:
        names: of the photos, see `read_pfenet_list`.
        photos: VOC2012.
        classes: ids of the fold's, 0 to 19.
        shots: supports an episode.
        seed: of the draws.

    Raises:
        UnreadableImageError: naming a label map.
    """
    pixels = {}
    for name in names:
        counts = np.bincount(photos.labels_alone(name).ravel(), minlength=256)
        pixels[name] = {wanted: int(counts[wanted + 1]) for wanted in classes if counts[wanted + 1]}
    return pfenet_episodes(pixels, classes, shots, seed)


def pfenet_list(root: Path) -> Path:
    """Where PFENet's validation list lies."""
    return root / "lists" / "pfenet" / "val.txt"


def hsnet_list(root: Path, fold: int) -> Path:
    """Where HSNet's list of a fold lies."""
    return root / "lists" / "hsnet" / "pascal" / "val" / f"fold{fold}.txt"


def read_pfenet_list(root: Path) -> list[str]:
    """Names of the photos of PFENet's validation list.

    Raises:
        DatasetNotFoundError: if the list is missing.
        ValueError: naming a malformed line.
    """
    file = pfenet_list(root)
    return [_stem_of_pair(line, file) for line in read_list(file, "Pascal-5i (PFENet)", PFENET)]


def read_hsnet_list(root: Path, fold: int) -> list[tuple[str, int]]:
    """Photos and class ids of HSNet's list of a fold; raises as `read_pfenet_list` does."""
    file = hsnet_list(root, fold)
    lines = []
    for line in read_list(file, "Pascal-5i (HSNet)", HSNET):
        name, _, label = line.rpartition("__")
        if not name or not label.isdecimal() or not 1 <= int(label[:9]) <= len(VOC_CLASSES):
            raise ValueError(f"{file}: {line!r} is not <photo>__<class>")
        lines.append((name, int(label) - 1))
    check_names(file, [name for name, _ in lines])
    return lines


def _stem_of_pair(line: str, file: Path) -> str:
    """Name of the photo in a line of two paths, photo and label map."""
    parts = line.split()
    if len(parts) != 2 or Path(parts[0]).stem != Path(parts[1]).stem:
        raise ValueError(f"{file}: {line!r} is not a photo and its label map")
    return Path(parts[0]).stem
