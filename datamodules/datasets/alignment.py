"""Samples of the prompt-engineering experiment: large objects of LVIS, cut out with their masks.

Reference: paper section 4; the authors' settings. Their archive of LVIS is not
public, so neither its images nor how large they were; here it is LVIS itself.
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

LEAST_AREA = 0.1
"""part of the image that the object covers, at least"""
LEAST_NAMES = 3
"""names that CLIP chooses from, at least; the authors leave out samples with fewer"""
_LEAST_VISIBLE = 0.05
_ENLARGED = 1.1  # short side of photos smaller than a crop, in sides of the crop


class ObjectCrop(NamedTuple):
    """A part of a photo with an object in it."""

    image: RGB
    """(side, side, 3) uint8"""
    mask: Mask
    """(side, side) bool, true on the object"""
    names: list[str]
    """of all categories annotated in the photo, the object's first"""


def large_objects(source: LVIS, seed: int, skipped: Counter[str]) -> Iterator[Pair]:
    """Yield in random order what qualifies: objects over a tenth of an image with three names.

    The authors draw with replacement (1,584 different objects among their 1,600); here every object
    comes once.

    Args:
        source: where to look.
        seed: of the order.
        skipped: counts those passed over on the way, by reason.
    """
    for place in np.random.default_rng(seed).permutation(len(source.pairs)):
        pair = source.pairs[place]
        if len(source.categories(pair.image)) < LEAST_NAMES:
            skipped[f"in images with fewer than {LEAST_NAMES} names"] += 1
        elif source.mask(pair).mean() <= LEAST_AREA:
            skipped[f"on at most {LEAST_AREA:.0%} of the image"] += 1
        else:
            yield pair


def crop_object(source: LVIS, pair: Pair, side: int, seed: int) -> ObjectCrop:
    """Cut a square out of a photo, at its own scale.

    Photos with a shorter side are enlarged first, as the authors do.

    Args:
        source: of the photo.
        pair: which object.
        side: of the square in pixels.
        seed: the position is a function of it and of the pair.

    Raises:
        UnreadableImageError: naming the file.
        ValueError: if the photo has not the size that was annotated.
    """
    photo, mask = source.photo(pair.image), source.mask(pair)
    if min(mask.shape) < side:
        scale = int(_ENLARGED * side) / min(mask.shape)
        height, width = (round(length * scale) for length in mask.shape)
        photo = np.asarray(cv2.resize(photo, (width, height)), np.uint8)
        small = mask.astype(np.uint8)
        mask = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    rng = np.random.default_rng([seed, *pair])
    top, left, _ = window_on_object(mask, side, _LEAST_VISIBLE, rng)
    rows, columns = slice(top, top + side), slice(left, left + side)
    others = [category for category in source.categories(pair.image) if category != pair.category]
    names = [source.names[category] for category in (pair.category, *others)]
    return ObjectCrop(photo[rows, columns], mask[rows, columns], names)
