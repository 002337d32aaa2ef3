"""Photos labelled pixel by pixel: VOC2012 and COCO2014 in the layout of HSNet."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB, UnreadableImageError, image_size, open_image, read_image
from clipseg_pl.prompts.masks import exif_note
from datamodules.datasets.files import require, stays_below

Labels = npt.NDArray[np.uint8]

IGNORED = 255
"""label of pixels that do not count"""
VOC_SOURCE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (SegmentationClassAug: SBD's)"
COCO_SOURCE = "https://github.com/juhongm999/hsnet (COCO2014 with its annotations folder)"


class LabelledPhotos:
    """Photos and their label maps: 0 is background, class + 1 an object's, 255 does not count.

    Args:
        photos: folder of `<name>.jpg`.
        labels: folder of `<name>.png`, one channel of 8 bits: indices, whatever their palette.
    """

    def __init__(self, photos: Path, labels: Path) -> None:
        """Remember the folders."""
        self.photos, self.label_maps = photos, labels

    def photo_file(self, name: str) -> Path:
        """Where a photo lies."""
        return self.photos / f"{name}.jpg"

    def label_file(self, name: str) -> Path:
        """Where its label map lies."""
        return self.label_maps / f"{name}.png"

    def image(self, name: str) -> RGB:
        """The photo, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: naming the file.
        """
        return read_image(self.photo_file(name))

    def labels(self, name: str) -> Labels:
        """The label map, (H, W) uint8, checked against the size in the photo's header.

        Raises:
            UnreadableImageError: as `labels_alone` does, or if it is not of its photo's size.
        """
        labels, size = self.labels_alone(name), image_size(self.photo_file(name))
        if size and labels.shape != size:
            raise UnreadableImageError(
                f"{self.label_file(name)}: the label map is {labels.shape[0]} x {labels.shape[1]} "
                f"pixels (height x width), its photo {size[0]} x {size[1]}"
                + exif_note(size, labels.shape, self.photo_file(name))
            )
        return labels

    def labels_alone(self, name: str) -> Labels:
        """The label map, (H, W) uint8, whatever the size of its photo.

        Raises:
            UnreadableImageError: naming the file, also if it is no map of indices.
        """
        file = self.label_file(name)
        with open_image(file, "label map") as image:
            mode, labels = image.mode, np.array(image)
        if mode not in ("L", "P"):
            raise UnreadableImageError(f"{file}: has mode {mode}, not L or P")
        return labels


def open_voc(root: Path, augmented: bool) -> LabelledPhotos:
    """VOC2012 below `root`, names as in its lists ("2007_000033").

    Args:
        root: folder that holds VOC2012.
        augmented: read SegmentationClassAug, else the original SegmentationClass.

    Raises:
        DatasetNotFoundError: if a part of it is missing.
    """
    folder, labels = root / "VOC2012", f"SegmentationClass{'Aug' if augmented else ''}"
    parts = {part: (folder / part).is_dir() for part in ("JPEGImages", labels)}
    require("Pascal VOC", folder, parts, VOC_SOURCE)
    return LabelledPhotos(folder / "JPEGImages", folder / labels)


def read_voc_list(root: Path, split: str) -> list[str]:
    """Names of the photos of VOC2012's own list for segmentation (train, val).

    Raises:
        DatasetNotFoundError: if it is missing.
        ValueError: if it is no list of names.
    """
    file = voc_list(root, split)
    names = read_list(file, "Pascal VOC", VOC_SOURCE)
    check_names(file, names)
    return names


def voc_list(root: Path, split: str) -> Path:
    """Where a list of VOC2012 lies."""
    return root / "VOC2012" / "ImageSets" / "Segmentation" / f"{split}.txt"


def open_coco(root: Path) -> LabelledPhotos:
    """COCO2014 below `root`, names with their folder ("val2014/COCO_val2014_000000000042").

    Args:
        root: folder that holds COCO2014.

    Raises:
        DatasetNotFoundError: if a part of it is missing.
    """
    folder = root / "COCO2014"
    names = ("train2014", "val2014", "annotations/train2014", "annotations/val2014")
    require("COCO-20i", folder, {name: (folder / name).is_dir() for name in names}, COCO_SOURCE)
    return LabelledPhotos(folder, folder / "annotations")


def read_list(file: Path, what: str, source: str) -> list[str]:
    """Lines of a list file, blank ones left out.

    Raises:
        DatasetNotFoundError: saying what the file is for, and where to get it.
        ValueError: naming the file, if it is no text.
    """
    require(what, file.parent, {file.name: file.is_file()}, source)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no text in UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_names(file: Path, names: Sequence[str]) -> None:
    """Refuse names that lead out of their dataset: masks are written under them, too.

    Raises:
        ValueError: naming the file that they are read from.
    """
    for name in names:
        if not stays_below(name):
            raise ValueError(f"{file}: {name!r:.100} is no name of a photo")
