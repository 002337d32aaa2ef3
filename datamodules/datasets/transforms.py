"""Geometry of images and masks: polygons to masks, crops, resizing."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeGuard

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from clipseg_pl.images import RGB
from clipseg_pl.prompts.visual import Mask

Rasterizer = Literal["coco", "pil"]
Points = npt.NDArray[np.float64]

FARTHEST = 1e6
"""pixels from the corner of a photo; pycocotools takes memory in proportion, and crashes at 1e9"""
CROP_TRIES = 50
CROP_SHARE = 0.05
WINDOW_TRIES = 200


class Square(NamedTuple):
    """A square part of an image, in pixels."""

    top: int
    left: int
    side: int


def is_size(sides: tuple[object, object]) -> TypeGuard[tuple[int, int]]:
    """Whether these, read from a file, can be the height and width of a photo."""
    return all(type(side) is int and side > 0 for side in sides)


def rasterise(
    polygons: Sequence[Points], height: int, width: int, rasterizer: Rasterizer = "coco"
) -> Mask:
    """Fill polygons: the union of all of them.

    Args:
        polygons: (points, 2) float64 each, x and y in pixels.
        height: of the mask.
        width: of the mask.
        rasterizer: "coco" is pycocotools', used for training; "pil" is PhraseCut's official
            evaluator's, which truncates coordinates, draws the outline as well and hence makes
            objects about half a pixel larger all around, and draws two points as a line where
            pycocotools draws nothing.

    Returns:
        (height, width) bool.
    """
    if rasterizer == "pil":
        canvas = Image.new("L", (width, height))
        draw = ImageDraw.Draw(canvas)
        for polygon in polygons:
            if len(polygon) >= 2:
                draw.polygon([(int(x), int(y)) for x, y in polygon], fill=1, outline=1)
        return np.asarray(canvas, dtype=np.bool_)
    encoded = _encode(polygons, height, width)
    if not encoded:
        return np.zeros((height, width), np.bool_)
    return np.asarray(coco_mask.decode(coco_mask.merge(encoded)), np.bool_)


def covers_nothing(polygons: Sequence[Points], height: int, width: int) -> bool:
    """Whether pycocotools' mask of the polygons would be empty."""
    encoded = _encode(polygons, height, width)
    return not encoded or not coco_mask.area(encoded).any()


def _encode(polygons: Sequence[Points], height: int, width: int) -> list[dict[str, Any]]:
    # two points would be taken for a bounding box
    flat = [polygon.ravel() for polygon in polygons if len(polygon) >= 3]
    encoded: list[dict[str, Any]] = coco_mask.frPyObjects(flat, height, width) if flat else []
    return encoded


def object_aware_crop(mask: Mask, rng: np.random.Generator, share: float = CROP_SHARE) -> Square:
    """Draw a square of the image's short side that shows the object.

    Of 50 random positions the first is taken in which more than a share of the whole image's area
    is object; where none is (small objects), the one that shows most.

    Args:
        mask: (H, W) bool.
        rng: source of the draws.
        share: of the image's area, 0 to 1.

    Reference: paper section 4 ("images are randomly cropped with object location in mind");
        numbers from the authors' code.
    """
    height, width = mask.shape
    side = min(height, width)
    # the square slides along the long side only, so what it shows is a difference of two sums
    per_line = np.count_nonzero(mask, axis=0 if width >= height else 1)
    before = np.concatenate([[0], np.cumsum(per_line)])
    starts = rng.integers(0, max(height, width) - side + 1, CROP_TRIES)
    visible = before[starts + side] - before[starts]
    enough = np.flatnonzero(visible > share * mask.size)
    start = int(starts[enough[0] if len(enough) else visible.argmax()])
    return Square(0, start, side) if width >= height else Square(start, 0, side)


def window_on_object(mask: Mask, side: int, share: float, rng: np.random.Generator) -> Square:
    """Draw a square of a given side, at the image's own scale, that shows enough of the object.

    Of 200 random positions the first is taken in which more than a share of the object can be seen
    and more than that share of the square is object; where none is, the one that shows most.

    Args:
        mask: (H, W) bool, true on the object; no side is shorter than the square's.
        side: of the square in pixels.
        share: 0 to 1.
        rng: source of the draws.

    Reference: the authors' loader of LVIS.
    """
    tops, lefts = (rng.integers(0, length - side + 1, WINDOW_TRIES) for length in mask.shape)
    sums = cv2.integral(mask.astype(np.uint8))  # (H + 1, W + 1), of all above and to the left
    bottoms, rights = tops + side, lefts + side
    visible = sums[bottoms, rights] - sums[tops, rights] - sums[bottoms, lefts] + sums[tops, lefts]
    enough = np.flatnonzero(visible > share * max(int(mask.sum()), side * side))
    chosen = enough[0] if len(enough) else visible.argmax()
    return Square(int(tops[chosen]), int(lefts[chosen]), side)


class PairedResize:
    """Resizes an image (bilinear) and its mask (nearest) to a square, distorting if need be.

    The authors resize with torch's bilinear, align_corners=True; the difference on photos is
    below 1 % of the grey range on average (measured by tests/datasets/test_transforms.py).

    Args:
        size: side in pixels.
    """

    def __init__(self, size: int) -> None:
        """Build the transform once; it has no random state."""
        self.size, self.resize = size, A.Resize(size, size, interpolation=cv2.INTER_LINEAR)

    def __call__(self, image: RGB, mask: Mask, crop: Square | None = None) -> tuple[RGB, Mask]:
        """Cut out the crop (all of it by default) and resize.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) bool.
            crop: part of both.
        """
        return self.resize(image=_part(image, crop))["image"], self.mask(mask, crop)

    def mask(self, mask: Mask, crop: Square | None = None) -> Mask:
        """Cut and resize a mask alone."""
        part, size = _part(mask, crop).astype(np.uint8), (self.size, self.size)
        return cv2.resize(part, size, interpolation=cv2.INTER_NEAREST).astype(np.bool_)


def _part(image: npt.NDArray[Any], crop: Square | None) -> npt.NDArray[Any]:
    if crop is None:
        return image
    return image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
