"""Photos with label maps: VOC2012, and COCO2014 in HSNet's layout."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB, UnreadableImageError, image_size, open_image, read_image
from clipseg_pl.prompts.masks import exif_note
from datamodules.datasets.files import require, stays_below
from datamodules.datasets.own_masks import stored_values

Labels = npt.NDArray[np.uint8]

IGNORED = 255
"""ignore label"""
VOC_SOURCE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (SegmentationClassAug: from SBD)"
COCO_SOURCE = "https://github.com/juhongm999/hsnet (COCO2014 with its annotations folder)"


class LabelledPhotos:
    """Photos and label maps, with pixels of 0 (background), class id + 1, or 255 (ignored).

    Args:
        photos: folder with `<name>.jpg` files.
        labels: folder with `<name>.png` files of one 8-bit channel; palettes are ignored.
    """

    def __init__(self, photos: Path, labels: Path) -> None:
        """Store the folders."""
        self.photos, self.label_maps = photos, labels

    def photo_file(self, name: str) -> Path:
        """Return the path of a photo."""
        return self.photos / f"{name}.jpg"

    def label_file(self, name: str) -> Path:
        """Return the path of a label map."""
        return self.label_maps / f"{name}.png"

    def image(self, name: str) -> RGB:
        """Read a photo, (H, W, 3) uint8.

        Raises:
            UnreadableImageError: if the file is missing or cannot be read.
        """
        return read_image(self.photo_file(name))

    def labels(self, name: str) -> Labels:
        """Read a label map, (H, W) uint8, and check its size against the photo's header.

        Raises:
            UnreadableImageError: if the file is missing or not a label map, or if its size differs
                from the photo's.
        """
        labels, size = self.labels_unchecked(name), image_size(self.photo_file(name))
        if size and labels.shape != size:
            raise UnreadableImageError(
                f"{self.label_file(name)}: the label map has {labels.shape[0]} x {labels.shape[1]} "
                f"pixels (height x width), but its photo has {size[0]} x {size[1]}"
                + exif_note(size, labels.shape, self.photo_file(name))
            )
        return labels

    def labels_unchecked(self, name: str) -> Labels:
        """Read a label map, (H, W) uint8, without checking its size.

        Raises:
            UnreadableImageError: if the file is missing or not a label map.
        """
        file = self.label_file(name)
        with open_image(file, "label map") as image:
            mode, labels = image.mode, stored_values(image, file)
        if mode not in ("L", "P"):
            raise UnreadableImageError(f"{file}: has mode {mode}, not L or P")
        return labels


def open_voc(root: Path, augmented: bool) -> LabelledPhotos:
    """Open VOC2012; photos have the same names as in its lists ("2007_000033").

    Args:
        root: folder that contains VOC2012.
        augmented: use SegmentationClassAug instead of the original SegmentationClass.

    Raises:
        DatasetNotFoundError: if a folder is missing.
    """
    folder, labels = root / "VOC2012", f"SegmentationClass{'Aug' if augmented else ''}"
    parts = {part: (folder / part).is_dir() for part in ("JPEGImages", labels)}
    require("Pascal VOC", folder, parts, VOC_SOURCE)
    return LabelledPhotos(folder / "JPEGImages", folder / labels)


def read_voc_list(root: Path, split: str) -> list[str]:
    """Read the names of the photos in VOC2012's segmentation list of a split (train, val).

    Raises:
        DatasetNotFoundError: if the list is missing.
        ValueError: if the file is not a list of names.
    """
    file = voc_list(root, split)
    names = read_list(file, "Pascal VOC", VOC_SOURCE)
    check_names(file, names)
    return names


def voc_list(root: Path, split: str) -> Path:
    """Return the path of VOC2012's segmentation list of a split."""
    return root / "VOC2012" / "ImageSets" / "Segmentation" / f"{split}.txt"


def open_coco(root: Path) -> LabelledPhotos:
    """Open COCO2014; names of photos include the folder ("val2014/COCO_val2014_000000000042").

    Args:
        root: folder that contains COCO2014.

    Raises:
        DatasetNotFoundError: if a folder is missing.
    """
    folder = root / "COCO2014"
    names = ("train2014", "val2014", "annotations/train2014", "annotations/val2014")
    require("COCO-20i", folder, {name: (folder / name).is_dir() for name in names}, COCO_SOURCE)
    return LabelledPhotos(folder, folder / "annotations")


def read_list(file: Path, what: str, source: str) -> list[str]:
    """Read the lines of a list file, without blank lines.

    Args:
        file: the list.
        what: name of the dataset, for the error message.
        source: where to get the list, for the error message.

    Raises:
        DatasetNotFoundError: if the file is missing.
        ValueError: if the file is not UTF-8 text.
    """
    require(what, file.parent, {file.name: file.is_file()}, source)
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def check_names(file: Path, names: Sequence[str]) -> None:
    """Reject photo names that lead out of the dataset folder.

    Predicted masks are also written under these names.

    Raises:
        ValueError: for the first such name.
    """
    for name in names:
        if not stays_below(name):
            raise ValueError(f"{file}: {name!r:.100} is not the name of a photo")
