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
from datamodules.datasets.files import cache_folder, cache_key, drafting, stays_below, writing_to
from datamodules.datasets.transforms import is_size

_VERSION = 1
"""version of the label maps in the cache; increase it when they change"""


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
        ValueError: if the file has another format, no photo of this split, or an annotation of an
            unknown photo.
    """
    target = cache_folder() / "label_maps" / f"{file.stem}-{cache_key(_VERSION, [file])}" / split
    if not target.is_dir():
        with drafting(target) as draft:
            if not target.is_dir():  # another process may have finished while this one waited
                with writing_to(target.parent):
                    _paint(file, split, draft / "maps")
                    os.rename(draft / "maps", target)
    return target


def _paint(file: Path, split: str, folder: Path) -> None:
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
        raise ValueError(f"{file}: no photo of the split {split!r}; splits: {', '.join(phases)}")
    orphans = sum(len(found) for image, found in annotations.items() if image not in photos)
    if orphans:
        raise ValueError(f"{file}: {orphans} annotations are of photos that it does not list")
    folder.mkdir()
    for photo in chosen:
        name, size = photo["file_name"], (photo["height"], photo["width"])
        if not (isinstance(name, str) and stays_below(name) and is_size(size)):
            raise ValueError(f"{file}: {name!r:.100} of size {size!r:.60} is not a photo")
        labels = np.zeros(size, np.uint16)
        for annotation in annotations[photo["image_id"]]:
            where = f"{file}: annotation {annotation.get('id')}"
            for region in encode(annotation.get("segmentation"), *size, where):
                labels[coco_mask.decode(region) > 0] = annotation["category_id"]
        Image.fromarray(labels).save(folder / Path(name).with_suffix(".png").name)
