"""Pascal VOC: its classes, and the episodes of Pascal-5i by PFENet's rule or HSNet's."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.datasets.episodes import Drawn, pfenet_episodes
from datamodules.datasets.labelled import LabelledPhotos, check_names, read_list

VOC_CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle",
    "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's names in its order; the label of a class in a mask is its position + 1."""

ZERO_SHOT_CLASSES: tuple[str, ...] = ("background", "airplane", *VOC_CLASSES[1:])
"""What the zero-shot benchmark prompts with, by label: JoEm's names, of which one is not VOC's."""

_FOLDS = 4
_UNSEEN_PAIRS = (
    ("cow", "motorbike"),
    ("aeroplane", "sofa"),
    ("cat", "tvmonitor"),
    ("train", "bottle"),
    ("chair", "pottedplant"),
)


def fold_classes(fold: int) -> tuple[str, ...]:
    """The five classes that a fold of Pascal-5i holds out, by VOC's names.

    Args:
        fold: 0 to 3.

    Raises:
        ValueError: for any other fold.
    """
    if fold not in range(_FOLDS):
        raise ValueError(f"fold {fold}: there are 0 to {_FOLDS - 1}")
    size = len(VOC_CLASSES) // _FOLDS
    return VOC_CLASSES[fold * size : (fold + 1) * size]


def unseen_classes(count: int) -> tuple[str, ...]:
    """The unseen classes of generalised zero-shot segmentation, by VOC's names.

    Args:
        count: 2, 4, 6, 8 or 10 of them; each set holds the smaller ones.

    Raises:
        ValueError: for any other count.

    Reference: the paper's Table 4 (unseen-10 and unseen-4), whose sets are those of JoEm.
    """
    counts = [2 * pairs for pairs in range(1, len(_UNSEEN_PAIRS) + 1)]
    if count not in counts:
        raise ValueError(f"unseen {count}: there are {', '.join(map(str, counts))}")
    return tuple(name for pair in _UNSEEN_PAIRS[: count // 2] for name in pair)


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
