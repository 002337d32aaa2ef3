"""Pascal VOC classes, the folds of Pascal-5i, and the lists of PFENet and HSNet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.datasets.episodes import SampledEpisodes, pfenet_episodes
from datamodules.datasets.labelled import LabelledPhotos, check_names, read_list

VOC_CLASSES: tuple[str, ...] = (
    "aeroplane", "bicycle", "bird", "boat", "bottle",
    "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person",
    "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's class names in VOC's order; the label of a class in a map is index + 1"""

ZERO_SHOT_CLASSES: tuple[str, ...] = ("background", "airplane", *VOC_CLASSES[1:])
"""prompts of the zero-shot benchmark by label, named as in JoEm (VOC has "aeroplane")"""

_FOLDS = 4
_UNSEEN_PAIRS = (
    ("cow", "motorbike"),
    ("aeroplane", "sofa"),
    ("cat", "tvmonitor"),
    ("train", "bottle"),
    ("chair", "pottedplant"),
)


def fold_classes(fold: int) -> tuple[str, ...]:
    """Return VOC's names of the five classes held out by a fold of Pascal-5i.

    Args:
        fold: 0 to 3.

    Raises:
        ValueError: for any other fold.
    """
    if fold not in range(_FOLDS):
        raise ValueError(f"fold must be 0 to {_FOLDS - 1}, not {fold}")
    size = len(VOC_CLASSES) // _FOLDS
    return VOC_CLASSES[fold * size : (fold + 1) * size]


def unseen_classes(count: int) -> tuple[str, ...]:
    """Return VOC's names of the unseen classes of generalised zero-shot segmentation.

    The sets are those of JoEm (Baek et al., ICCV 2021). See docs/deviations.md (unseen-sets).

    Args:
        count: 2, 4, 6, 8 or 10; each set contains the smaller ones.

    Raises:
        ValueError: for any other count.

    Reference: paper, Table 4 (unseen-10 and unseen-4).
    """
    counts = [2 * pairs for pairs in range(1, len(_UNSEEN_PAIRS) + 1)]
    if count not in counts:
        known = ", ".join(map(str, counts))
        raise ValueError(f"the number of unseen classes must be one of {known}, not {count}")
    return tuple(name for pair in _UNSEEN_PAIRS[: count // 2] for name in pair)


PFENET = "https://github.com/Jia-Research-Lab/PFENet (lists/pascal)"
HSNET = "https://github.com/juhongm999/hsnet (data/splits/pascal)"


def sample_pfenet_episodes(
    names: Sequence[str], photos: LabelledPhotos, classes: Sequence[int], shots: int, seed: int
) -> SampledEpisodes:
    """Sample one episode for each listed photo that shows enough of a class.

    Reads every listed label map (1449 in PFENet's list) to count the pixels of the classes.

    Args:
        names: names of the photos, see `read_pfenet_list`.
        photos: VOC2012.
        classes: class ids of the fold, 0 to 19.
        shots: support photos per episode.
        seed: seed for sampling.

    Raises:
        UnreadableImageError: if a label map cannot be read.
    """
    pixels = {}
    for name in names:
        counts = np.bincount(photos.labels_unchecked(name).ravel(), minlength=256)
        pixels[name] = {c: int(counts[c + 1]) for c in classes if counts[c + 1]}
    return pfenet_episodes(pixels, classes, shots, seed)


def pfenet_list(root: Path) -> Path:
    """Return the path of PFENet's validation list."""
    return root / "lists" / "pfenet" / "val.txt"


def hsnet_list(root: Path, fold: int) -> Path:
    """Return the path of HSNet's validation list of a fold."""
    return root / "lists" / "hsnet" / "pascal" / "val" / f"fold{fold}.txt"


def read_pfenet_list(root: Path) -> list[str]:
    """Read the names of the photos in PFENet's validation list.

    Raises:
        DatasetNotFoundError: if the list is missing.
        ValueError: if a line is malformed.
    """
    file = pfenet_list(root)
    return [_stem_of_pair(line, file) for line in read_list(file, "Pascal-5i (PFENet)", PFENET)]


def read_hsnet_list(root: Path, fold: int) -> list[tuple[str, int]]:
    """Read the photos and class ids of HSNet's list; raises the errors of `read_pfenet_list`."""
    file = hsnet_list(root, fold)
    lines = []
    for line in read_list(file, "Pascal-5i (HSNet)", HSNET):
        name, _, label = line.rpartition("__")
        if not name or not label.isdecimal() or not 1 <= int(label[:9]) <= len(VOC_CLASSES):
            raise ValueError(f"{file}: {line!r} is not of the form <photo>__<class>")
        lines.append((name, int(label) - 1))
    check_names(file, [name for name, _ in lines])
    return lines


def _stem_of_pair(line: str, file: Path) -> str:
    """Return the photo's name from a line with two paths, photo and label map."""
    parts = line.split()
    if len(parts) != 2 or Path(parts[0]).stem != Path(parts[1]).stem:
        raise ValueError(f"{file}: {line!r} is not the paths of a photo and its label map")
    return Path(parts[0]).stem
