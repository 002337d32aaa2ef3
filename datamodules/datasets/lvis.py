"""LVIS: one mask per image and annotated category, and the category names."""

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.annotations import read_annotated
from datamodules.datasets.coco_json import by_id, read_id
from datamodules.datasets.coco_masks import read_polygons
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.files import require, stays_below
from datamodules.datasets.phrase_table import Rows
from datamodules.datasets.transforms import Points, Polygons, is_size, rasterise

SOURCE = "https://www.lvisdataset.org/dataset (photos: https://cocodataset.org/#download, 2017)"
_PHOTOS = ("train2017", "val2017")


class Pair(NamedTuple):
    """Ids of an image and of a category annotated in it."""

    image: int
    category: int


class _Image(NamedTuple):
    file: str
    height: int
    width: int
    absent: tuple[int, ...]
    """`neg_category_ids`"""


class LVIS:
    """Annotations of LVIS v1, or of v0.5 if its files are renamed to v1's names.

    LVIS is a federated dataset: a category without annotations in an image is known to be absent
    only if the image lists it in `neg_category_ids`. Masks of the categories in
    `not_exhaustive_category_ids` are incomplete, because some instances are not annotated.

    Args:
        root: folder that contains LVIS, with `lvis_v1_<split>.json`, train2017 and val2017.
        splits: splits to read; they must not share images.

    Raises:
        DatasetNotFoundError: if a file or a folder of photos is missing.
        ValueError: if an annotation file is malformed.
    """

    def __init__(self, root: Path, splits: Sequence[str] = ("train", "val")) -> None:
        """Read the annotations; photos are read on access."""
        self.folder = root / "LVIS"
        files = [self.folder / f"lvis_v1_{split}.json" for split in splits]
        parts = {file.name: file.is_file() for file in files}
        parts |= {name: (self.folder / name).is_dir() for name in _PHOTOS}
        require("LVIS", self.folder, parts, SOURCE)
        self.names: dict[int, str] = {}
        """name of each category id, with underscores replaced by blanks"""
        self._images: dict[int, _Image] = {}
        polygons: dict[Pair, list[Points]] = {}
        for file in files:
            self._read(file, polygons)
        self.pairs = sorted(polygons)
        """all pairs of an image and an annotated category, sorted"""
        self._polygons = Polygons.pack([polygons[pair] for pair in self.pairs])
        self._categories: defaultdict[int, list[int]] = defaultdict(list)
        for pair in self.pairs:
            self._categories[pair.image].append(pair.category)
        names = ", ".join(str(file) for file in files)
        self.listed = f"{names} lists {len(self._images)} photos and {len(self.pairs)} masks"
        """summary of the annotations, for messages"""

    def categories(self, image: int) -> Sequence[int]:
        """Return the ids of the categories annotated in an image, in ascending order."""
        return self._categories.get(image, [])

    def absent_categories(self, image: int) -> Sequence[int]:
        """Return the ids of the categories known to be absent from an image."""
        annotated = self.categories(image)
        return [absent for absent in self._images[image].absent if absent not in annotated]

    def mask(self, pair: Pair) -> Mask:
        """Return the union of all instances of a category in an image, (H, W) bool.

        The mask has the size of the photo. It may be empty, since some polygons cover no pixel.
        """
        image = self._images[pair.image]
        return rasterise(self._polygons(bisect_left(self.pairs, pair)), image.height, image.width)

    def area(self, pair: Pair) -> float:
        """Return the polygon area as a fraction of the photo; overlaps count twice."""
        image, total = self._images[pair.image], 0.0
        for polygon in self._polygons(bisect_left(self.pairs, pair)):
            (x, y), (next_x, next_y) = polygon.T, np.roll(polygon, -1, axis=0).T
            total += abs(float(x @ next_y - y @ next_x)) / 2  # the shoelace formula
        return total / (image.height * image.width)

    @property
    def images(self) -> Sequence[int]:
        """Return the ids of all images, including images without annotations."""
        return list(self._images)

    def coco_ids(self, images: Iterable[int]) -> Rows:
        """Return the COCO id of each image, (images,) int64, by the names of the photos.

        LVIS numbers its images by these ids, but data in LVIS's format may have other photos, whose
        id is -1.
        """
        return coco_ids(self._images[image].file for image in images)

    def photo_file(self, image: int) -> Path:
        """Return the path of a photo, which may not exist."""
        name = self._images[image].file
        candidates = [self.folder / name]
        if "/" not in name:  # v0.5 may give the file name without a folder
            candidates = [self.folder / folder / name for folder in _PHOTOS]
        return next((file for file in candidates if file.is_file()), candidates[0])

    def photo(self, image: int) -> RGB:
        """Read a photo, (H, W, 3) uint8 RGB.

        Raises:
            UnreadableImageError: if the file is missing, unreadable or not of the annotated size.
        """
        annotated = self._images[image]
        return read_annotated(self.photo_file(image), (annotated.height, annotated.width))

    def _read(self, file: Path, polygons: dict[Pair, list[Points]]) -> None:
        """Read images and categories, and add the polygons of each pair."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"), object_hook=_compact)
            names = by_id(map(_read_category, content["categories"]), "categories")
            for number, name in names.items():
                if self.names.setdefault(number, name) != name:
                    raise ValueError(
                        f"category {number} is {name!r}, but {self.names[number]!r} in another "
                        "split"
                    )
            images = by_id(map(_read_image_entry, content["images"]), "images", files=True)
            common = images.keys() & self._images.keys()
            if common:
                raise ValueError(f"image {min(common)} is also in another split")
            self._images |= images
            for pair, added in content["annotations"]:
                self._images[pair.image], self.names[pair.category]  # unknown ids raise KeyError
                polygons.setdefault(pair, []).extend(added)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: invalid LVIS annotations ({error!r})") from error


def _compact(entry: dict[str, Any]) -> object:
    """Convert annotations to arrays while parsing; Python lists take four times the memory."""
    if "segmentation" not in entry:
        return entry
    polygons = read_polygons(entry["segmentation"], f"annotation {entry.get('id')}")
    pair = Pair(_id(entry["image_id"]), _id(entry["category_id"]))
    return pair, [flat.reshape(-1, 2) for flat in polygons]


def _id(value: object) -> int:
    """Read an id. Strings are rejected, since ids become names of prediction files."""
    number = read_id(value)
    if not isinstance(number, int):
        raise ValueError(f"id {value!r:.40} is not an integer")
    return number


def _read_category(entry: dict[str, Any]) -> tuple[int, str, str]:
    name = entry["name"].replace("_", " ")
    return _id(entry["id"]), name, name


def _read_image_entry(entry: dict[str, Any]) -> tuple[int, str, _Image]:
    size = entry["height"], entry["width"]
    if not is_size(size):
        raise ValueError(f"image {entry['id']} has invalid height and width {size!r:.60}")
    if "coco_url" in entry:  # .../train2017/000000000030.jpg
        name = "/".join(entry["coco_url"].split("/")[-2:])
    else:
        name = entry["file_name"].rpartition("_")[2]  # COCO_val2014_0...30.jpg
    if not stays_below(name):
        raise ValueError(f"image {entry['id']} has invalid file name {name!r:.100}")
    absent = tuple(map(_id, entry.get("neg_category_ids", ())))
    return _id(entry["id"]), name, _Image(name, *size, absent)
