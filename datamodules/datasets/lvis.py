"""LVIS: in each image every annotated category as one mask, and the names of all of them."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clipseg_pl.images import RGB, read_image
from clipseg_pl.prompts.masks import exif_note
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.coco_json import by_id, polygons_of, read_id
from datamodules.datasets.files import require, stays_below
from datamodules.datasets.transforms import Points, is_size, rasterise

SOURCE = "https://www.lvisdataset.org/dataset (photos: https://cocodataset.org/#download, 2017)"
_PHOTOS = ("train2017", "val2017")


class Pair(NamedTuple):
    """A category in an image, by their ids."""

    image: int
    category: int


class _Image(NamedTuple):
    file: str
    height: int
    width: int
    absent: tuple[int, ...]
    """`neg_category_ids`"""


class LVIS:
    """The annotations of LVIS v1; those of v0.5 under v1's file names are read as well.

    LVIS is a federated dataset: a category without annotations in an image is known to be absent
    only if the image lists it in `neg_category_ids`. Of the categories in
    `not_exhaustive_category_ids` some instances have no annotation, so their masks are incomplete.

    Args:
        root: folder that holds LVIS, with `lvis_v1_<split>.json`, train2017 and val2017.
        splits: whose annotations to read; no image is in two of them.

    Raises:
        DatasetNotFoundError: if a file or a folder of photos is missing.
        ValueError: if a file is not what it should be, naming it.
    """

    def __init__(self, root: Path, splits: Sequence[str] = ("train", "val")) -> None:
        """Read the annotations; photos are read when they are asked for."""
        self.folder = root / "LVIS"
        files = [self.folder / f"lvis_v1_{split}.json" for split in splits]
        parts = {file.name: file.is_file() for file in files}
        parts |= {name: (self.folder / name).is_dir() for name in _PHOTOS}
        require("LVIS", self.folder, parts, SOURCE)
        self.names: dict[int, str] = {}
        """category -> name, with blanks for underscores"""
        self._images: dict[int, _Image] = {}
        self._polygons: dict[Pair, list[Points]] = {}
        for file in files:
            self._read(file)
        self.pairs = sorted(self._polygons)
        """all categories annotated in all images"""
        self._categories: defaultdict[int, list[int]] = defaultdict(list)
        for pair in self.pairs:
            self._categories[pair.image].append(pair.category)
        names = ", ".join(str(file) for file in files)
        self.listed = f"{names} lists {len(self._images)} photos and {len(self.pairs)} masks"
        """what was read, for messages"""

    def categories(self, image: int) -> Sequence[int]:
        """The categories annotated in an image, by rising id."""
        return self._categories.get(image, [])

    def absent_categories(self, image: int) -> Sequence[int]:
        """The categories that are known to be absent from an image."""
        annotated = self.categories(image)
        return [absent for absent in self._images[image].absent if absent not in annotated]

    def mask(self, pair: Pair) -> Mask:
        """All instances of a category in an image: (H, W) bool, as large as the photo.

        It may be empty: not every polygon covers a pixel.
        """
        image = self._images[pair.image]
        return rasterise(self._polygons[pair], image.height, image.width)

    def area(self, pair: Pair) -> float:
        """Share of the photo that the polygons of a category cover, overlaps counted twice."""
        image, total = self._images[pair.image], 0.0
        for polygon in self._polygons[pair]:
            (x, y), (next_x, next_y) = polygon.T, np.roll(polygon, -1, axis=0).T
            total += abs(float(x @ next_y - y @ next_x)) / 2  # the shoelace formula
        return total / (image.height * image.width)

    @property
    def images(self) -> Sequence[int]:
        """Ids of all images, those without annotations among them."""
        return list(self._images)

    def photo_file(self, image: int) -> Path:
        """Where a photo lies, or should."""
        name = self._images[image].file
        places = [self.folder / name]
        if "/" not in name:  # v0.5 may name the file alone
            places = [self.folder / folder / name for folder in _PHOTOS]
        return next((place for place in places if place.is_file()), places[0])

    def photo(self, image: int) -> RGB:
        """Read a photo, (H, W, 3) uint8 RGB.

        Raises:
            UnreadableImageError: naming the file.
            ValueError: if it has not the size that was annotated.
        """
        wanted, file = self._images[image], self.photo_file(image)
        photo = read_image(file)
        size = wanted.height, wanted.width
        if photo.shape[:2] != size:
            found = f"{photo.shape[0]} x {photo.shape[1]}"
            note = exif_note(photo.shape[:2], size, file)
            raise ValueError(f"{file}: {found}, annotated as {size[0]} x {size[1]}{note}")
        return photo

    def _read(self, file: Path) -> None:
        try:
            content = json.loads(file.read_text(encoding="utf-8"), object_hook=_compact)
            names = by_id(map(_read_category, content["categories"]), "categories")
            for number, name in names.items():
                if self.names.setdefault(number, name) != name:
                    raise ValueError(
                        f"category {number} is {name!r} here and {self.names[number]!r} in another "
                        "split"
                    )
            images = by_id(map(_read_image_entry, content["images"]), "images", files=True)
            common = images.keys() & self._images.keys()
            if common:
                raise ValueError(f"image {min(common)} is in another split too")
            self._images |= images
            for pair, polygons in content["annotations"]:
                self._images[pair.image], self.names[pair.category]  # both must be known
                self._polygons.setdefault(pair, []).extend(polygons)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: not LVIS's annotations ({error!r})") from error


def _compact(entry: dict[str, Any]) -> object:
    """Turn annotations into arrays while json is read; lists of numbers are four times larger."""
    if "segmentation" not in entry:
        return entry
    polygons = polygons_of(entry["segmentation"], f"annotation {entry.get('id')}")
    pair = Pair(_id(entry["image_id"]), _id(entry["category_id"]))
    return pair, [flat.reshape(-1, 2) for flat in polygons]


def _id(given: object) -> int:
    """An id, which names files too."""
    number = read_id(given)
    if not isinstance(number, int):
        raise ValueError(f"id {given!r:.40} is no whole number")
    return number


def _read_category(entry: dict[str, Any]) -> tuple[int, str, str]:
    name = entry["name"].replace("_", " ")
    return _id(entry["id"]), name, name


def _read_image_entry(entry: dict[str, Any]) -> tuple[int, str, _Image]:
    size = entry["height"], entry["width"]
    if not is_size(size):
        raise ValueError(f"image {entry['id']} has no size but {size!r:.60}")
    if "coco_url" in entry:  # .../train2017/000000000030.jpg
        name = "/".join(entry["coco_url"].split("/")[-2:])
    else:
        name = entry["file_name"].rpartition("_")[2]  # COCO_val2014_0...30.jpg
    if not stays_below(name):
        raise ValueError(f"image {entry['id']} is called {name!r:.100}")
    absent = tuple(map(_id, entry.get("neg_category_ids", ())))
    return _id(entry["id"]), name, _Image(name, *size, absent)
