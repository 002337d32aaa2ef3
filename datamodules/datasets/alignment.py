"""Samples of the visual prompt engineering experiment: crops of large LVIS objects with masks.

The authors' LVIS archive is not public, so its images and their sizes are unknown. This
module uses LVIS itself, with the authors' settings. See docs/deviations.md (alignment-samples).

Reference: paper, section 4.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask
from datamodules.datasets.lvis import LVIS, Pair
from datamodules.datasets.transforms import window_on_object

MIN_AREA = 0.1
"""fraction of the image; objects that cover this much or less are skipped"""
MIN_NAMES = 3
"""minimum number of categories in the image, between which CLIP chooses; as in the authors' code"""
_MIN_VISIBLE = 0.05  # `share` of `window_on_object`
_ENLARGED = 1.1  # short side of enlarged photos, relative to the side of the crop


class ObjectCrop(NamedTuple):
    """A square part of a photo that shows an object."""

    image: RGB
    """(side, side, 3) uint8"""
    mask: Mask
    """(side, side) bool, true on the object"""
    names: list[str]
    """names of all categories annotated in the photo, the object's first"""


def large_objects(source: LVIS, seed: int, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield the large objects in random order.

    An object qualifies if it covers more than a tenth of an image with at least three annotated
    categories. The authors sample with replacement (1,584 different objects among their 1,600).
    This function yields every object once. See docs/deviations.md (alignment-samples).

    Args:
        source: LVIS annotations.
        seed: seed for the order.
        skipped: is updated with the number of skipped objects, by reason.
    """
    for place in np.random.default_rng(seed).permutation(len(source.pairs)):
        pair = source.pairs[place]
        if len(source.categories(pair.image)) < MIN_NAMES:
            skipped[f"in images with fewer than {MIN_NAMES} names"] += 1
        elif source.mask(pair).mean() <= MIN_AREA:
            skipped[f"on at most {MIN_AREA:.0%} of the image"] += 1
        else:
            yield pair


def crop_object(source: LVIS, pair: Pair, side: int, seed: int) -> ObjectCrop:
    """Crop a square that shows the object, without rescaling the photo.

    Photos with a short side below `side` are enlarged first, as in the authors' code.

    Args:
        source: LVIS annotations.
        pair: the object.
        side: side of the square in pixels.
        seed: the position depends on the seed and the object only.

    Raises:
        UnreadableImageError: if the photo is unreadable or not of the annotated size.
    """
    photo, mask = source.photo(pair.image), source.mask(pair)
    if min(mask.shape) < side:
        scale = int(_ENLARGED * side) / min(mask.shape)
        height, width = (round(length * scale) for length in mask.shape)
        photo = np.asarray(cv2.resize(photo, (width, height)), np.uint8)
        small = mask.astype(np.uint8)
        mask = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    rng = np.random.default_rng([seed, *pair])
    top, left, _ = window_on_object(mask, side, _MIN_VISIBLE, rng)
    rows, columns = slice(top, top + side), slice(left, left + side)
    others = [category for category in source.categories(pair.image) if category != pair.category]
    names = [source.names[category] for category in (pair.category, *others)]
    return ObjectCrop(photo[rows, columns], mask[rows, columns], names)
