"""COCO-20i in HSNet's layout: pickled lists, classes, and tasks to train on."""

import io
import pickle
from pathlib import Path
from typing import NoReturn

import numpy as np

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.files import require, stays_below
from datamodules.datasets.labelled import COCO_SOURCE, LabelledPhotos
from datamodules.datasets.phrase_table import PhraseTable

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
"""COCO's 80 names in the order of their category ids; the label in a map is the position + 1."""


def fold_classes(fold: int) -> list[int]:
    """Ids of the 20 classes that a fold of COCO-20i holds out: every fourth.

    Raises:
        ValueError: for a fold outside 0 to 3.
    """
    if fold not in range(FOLDS):
        raise ValueError(f"fold {fold}: there are 0 to {FOLDS - 1}")
    return list(range(fold, len(COCO_CLASSES), FOLDS))


def fold_file(root: Path, part: str, fold: int) -> Path:
    """Where HSNet's list of a part ("trn" or "val") of a fold lies."""
    return root / "splits" / "coco" / part / f"fold{fold}.pkl"


def read_fold(root: Path, part: str, fold: int) -> dict[int, list[str]]:
    """HSNet's list: class of the part -> names of the photos that show it, without endings.

    Args:
        root: folder that holds splits/coco.
        part: "trn", the 60 classes that are not the fold's in train2014; or "val", the other 20 in
            val2014.
        fold: 0 to 3.

    Raises:
        DatasetNotFoundError: if the list is missing.
        ValueError: if it is something else, or would run code when read.
    """
    file = fold_file(root, part, fold)
    require("COCO-20i", file.parent, {file.name: file.is_file()}, COCO_SOURCE)
    try:
        content = _PlainUnpickler(io.BytesIO(file.read_bytes())).load()
        held = {int(key): [_name(path) for path in content[key]] for key in content}
    except Exception as error:  # what a damaged pickle comes to can be anything
        raise ValueError(f"{file}: not a list of photos by class ({error!s:.200})") from error
    if not set(held) <= set(range(len(COCO_CLASSES))):
        raise ValueError(f"{file}: class ids lie in 0 to {len(COCO_CLASSES) - 1}")
    wanted = set(fold_classes(fold))
    return {key: held[key] for key in sorted(held) if (key in wanted) == (part == "val")}


class _PlainUnpickler(pickle.Unpickler):
    """Reads dicts, lists, strings and numbers; a pickle that names anything else is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        """Refuse."""
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _name(path: object) -> str:
    """The name of a photo, without its ending."""
    if not isinstance(path, str) or not stays_below(path):
        raise ValueError(f"{path!r:.100} is no photo of COCO")
    return str(Path(path).with_suffix(""))


class COCOTasks(PhraseTable):
    """The training part of a fold as tasks with phrases: each class in each photo that shows it.

    Args:
        photos: COCO2014.
        listed: class -> names of photos.
    """

    def __init__(self, photos: LabelledPhotos, listed: dict[int, list[str]]) -> None:
        """Count the tasks."""
        self.photos = photos
        self.pairs = [(name, class_id) for class_id, names in listed.items() for name in names]
        classes = [class_id for class_id, names in listed.items() if names]
        sizes = [len(listed[class_id]) for class_id in classes]
        _, photo = np.unique([name for name, _ in self.pairs], return_inverse=True)
        phrase = np.repeat(np.arange(len(sizes)), sizes)
        super().__init__([COCO_CLASSES[class_id] for class_id in classes], phrase, photo)

    def read_name(self, row: int) -> str:
        """Photo and class."""
        name, class_id = self.pairs[row]
        return f"{name.replace('/', '_')}__{class_id + 1:02}"

    def read_image(self, row: int) -> RGB:
        """The photo, (H, W, 3) uint8; raises as `LabelledPhotos` does."""
        return self.photos.image(self.pairs[row][0])

    def read_mask(self, row: int) -> Mask:
        """The class's pixels, (H, W) bool."""
        name, class_id = self.pairs[row]
        return np.asarray(self.photos.labels(name) == class_id + 1)
