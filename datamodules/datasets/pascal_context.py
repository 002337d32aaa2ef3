"""Label maps of Pascal Context, painted from its annotations (trainval_merged.json)."""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from datamodules.datasets.coco_masks import encode
from datamodules.datasets.files import (
    DatasetNotFoundError,
    cache_folder,
    cache_key,
    drafting,
    stays_below,
    writing_to,
)
from datamodules.datasets.transforms import is_size

_VERSION = 1
"""version of the label maps in the cache; increase it when they change"""
_Annotated = tuple[dict[str, Any], list[dict[str, Any]]]  # a photo and its annotations


def paint_label_maps(file: Path, split: str) -> Path:
    """Paint the label maps of a split into the cache, unless they are there.

    A label map is a PNG of 16 bits at the size of its photo. Pixels have the category id of their
    last annotation, or 0 without one, as in the API of PASCAL in Detail.

    Args:
        file: trainval_merged.json.
        split: value of `phase` of the photos.

    Returns:
        Folder with `<photo>.png`.

    Raises:
        DatasetNotFoundError: if the file has no photo of this split.
        ValueError: if the file has another format, an annotation of an unknown photo, or two photos
            with one name.
    """
    target = cache_folder() / "label_maps" / f"{file.stem}-{cache_key(_VERSION, [file])}" / split
    if not target.is_dir():
        with drafting(target) as draft:
            if not target.is_dir():  # another process may have finished while this one waited
                annotated = _read(file, split)
                with writing_to(target.parent):
                    _paint(file, annotated, draft / "maps")
                    os.rename(draft / "maps", target)
    return target


def _read(file: Path, split: str) -> list[_Annotated]:
    """Return the photos of a split with their annotations."""
    try:
        content = json.loads(file.read_bytes())
        photos = {photo["image_id"]: photo for photo in content["images"]}
        phases = sorted({str(photo["phase"]) for photo in photos.values()})
        annotations = defaultdict[Any, list[dict[str, Any]]](list)
        for annotation in content["annos_segmentation"]:
            annotations[annotation["image_id"]].append(annotation)
        chosen = [photo for photo in photos.values() if photo["phase"] == split]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file}: not the annotations of Pascal Context ({error!r:.200})"
        ) from error
    if not chosen:
        listed = ", ".join(phases)
        raise DatasetNotFoundError(f"{file}: no photo of the split {split!r}; splits: {listed}")
    orphans = sum(len(found) for image, found in annotations.items() if image not in photos)
    if orphans:
        raise ValueError(f"{file}: {orphans} annotations are of photos that it does not list")
    return [(photo, annotations[photo["image_id"]]) for photo in chosen]


def _paint(file: Path, annotated: list[_Annotated], folder: Path) -> None:
    folder.mkdir()
    written = set[str]()
    for photo, annotations in annotated:
        name, size = photo["file_name"], (photo["height"], photo["width"])
        if not (isinstance(name, str) and stays_below(name) and is_size(size)):
            raise ValueError(f"{file}: {name!r:.100} of size {size!r:.60} is not a photo")
        target = Path(name).with_suffix(".png").name
        if target in written:
            raise ValueError(f"{file}: two photos are named {Path(name).stem}")
        written.add(target)
        labels = np.zeros(size, np.uint16)
        for annotation in annotations:
            where = f"{file}: annotation {annotation.get('id')}"
            category = annotation.get("category_id")
            if type(category) is not int or not 0 < category < 1 << 16:
                raise ValueError(f"{where}: {category!r:.40} is not a category")
            for region in encode(annotation.get("segmentation"), *size, where):
                labels[coco_mask.decode(region) > 0] = category
        Image.fromarray(labels).save(folder / target)
