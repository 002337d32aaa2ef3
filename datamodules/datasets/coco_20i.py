"""COCO-20i in HSNet's layout: classes, pickled lists and training tasks."""

from pathlib import Path
from typing import Any

import numpy as np

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.files import read_plain_pickle, require, stays_below
from datamodules.datasets.labelled import COCO_SOURCE, LabelledPhotos
from datamodules.datasets.phrase_table import PhraseTable, Rows

FOLDS = 4
COCO_CLASSES: tuple[str, ...] = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip
"""COCO's 80 class names in the order of the category ids; the label in a map is index + 1"""


def fold_classes(fold: int) -> list[int]:
    """Return the ids of the 20 classes held out by a fold of COCO-20i: every fourth class.

    Raises:
        ValueError: if the fold is not 0 to 3.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"fold must be 0 to {FOLDS - 1}, not {fold}")
    return list(range(fold, len(COCO_CLASSES), FOLDS))


def fold_file(root: Path, part: str, fold: int) -> Path:
    """Return the path of HSNet's list of a part ("trn" or "val") of a fold."""
    return root / "splits" / "coco" / part / f"fold{fold}.pkl"


def read_fold(root: Path, part: str, fold: int) -> dict[int, list[str]]:
    """Read HSNet's list of a fold.

    Args:
        root: folder that contains splits/coco.
        part: "trn" for the 60 training classes in train2014, or "val" for the 20 held-out classes
            in val2014.
        fold: 0 to 3.

    Returns:
        Class id -> names of the photos that show the class, without file suffix.

    Raises:
        DatasetNotFoundError: if the list is missing.
        ValueError: if the file is not such a list, or its pickle would run code.
    """
    file = fold_file(root, part, fold)
    require("COCO-20i", file.parent, {file.name: file.is_file()}, COCO_SOURCE)
    try:
        content: Any = read_plain_pickle(file)
        photos = {int(key): [_name(path) for path in content[key]] for key in content}
    except Exception as error:  # a damaged pickle can raise any exception
        raise ValueError(f"{file}: not a list of photos by class ({error!s:.200})") from error
    if not set(photos) <= set(range(len(COCO_CLASSES))):
        raise ValueError(f"{file}: class ids must be 0 to {len(COCO_CLASSES) - 1}")
    held_out = set(fold_classes(fold))
    return {key: photos[key] for key in sorted(photos) if (key in held_out) == (part == "val")}


def _name(path: object) -> str:
    """Return the name of a photo, without file suffix."""
    if not isinstance(path, str) or not stays_below(path):
        raise ValueError(f"{path!r:.100} is not the path of a COCO photo")
    return str(Path(path).with_suffix(""))


class COCOTasks(PhraseTable):
    """Training data of a fold: one phrase per photo and training class in it, the class name.

    Args:
        photos: COCO2014.
        listed: class id -> names of the photos that show the class.
    """

    def __init__(self, photos: LabelledPhotos, listed: dict[int, list[str]]) -> None:
        """List the tasks."""
        self.photos = photos
        self.pairs = [(name, class_id) for class_id, names in listed.items() for name in names]
        classes = [class_id for class_id, names in listed.items() if names]
        sizes = [len(listed[class_id]) for class_id in classes]
        _, photo = np.unique([name for name, _ in self.pairs], return_inverse=True)
        phrase = np.repeat(np.arange(len(sizes)), sizes)
        phrases = [COCO_CLASSES[class_id] for class_id in classes]
        super().__init__(phrases, phrase, photo, coco_ids(f"{name}.jpg" for name, _ in self.pairs))

    def read_name(self, row: int) -> str:
        """Return a unique name made of photo and class."""
        name, class_id = self.pairs[row]
        return f"{name.replace('/', '_')}__{class_id + 1:02}"

    def read_image(self, row: int) -> RGB:
        """Read the photo, (H, W, 3) uint8; raises the errors of `LabelledPhotos.image`."""
        return self.photos.image(self.pairs[row][0])

    def read_mask(self, row: int) -> Mask:
        """Read the mask of the class, (H, W) bool."""
        name, class_id = self.pairs[row]
        return np.asarray(self.photos.labels(name) == class_id + 1)


def evaluated_photos(root: Path) -> Rows:
    """Return the COCO ids of the query and support photos of all folds, (photos,) int64.

    Raises:
        DatasetNotFoundError: if a list is missing.
        ValueError: if a list is malformed.
    """
    listed = (read_fold(root, "val", fold) for fold in range(FOLDS))
    return coco_ids(f"{name}.jpg" for fold in listed for names in fold.values() for name in names)
