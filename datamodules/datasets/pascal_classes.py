"""Pascal VOC's class names, and which of them a benchmark holds out of training."""

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
