"""Geometry of images and masks: rasterizing polygons, cropping, resizing."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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
"""largest accepted coordinate in pixels; pycocotools needs memory for it, and crashes at 1e9"""
CROP_TRIES = 50
CROP_SHARE = 0.05
WINDOW_TRIES = 200


class Square(NamedTuple):
    """Position and size of a square crop, in pixels."""

    top: int
    left: int
    side: int


def is_size(sides: tuple[object, object]) -> TypeGuard[tuple[int, int]]:
    """Return whether two values from a file are a valid height and width of a photo."""
    return all(type(side) is int and side > 0 for side in sides)


@dataclass(frozen=True)
class Polygons:
    """Function that takes a row and returns its polygons, in arrays that data workers share.

    Args:
        points: (total, 2) float64, x and y in pixels of the points of all polygons.
        point_offsets: (polygons + 1,) int64, first point of each polygon.
        polygon_offsets: (rows + 1,) int64, first polygon of each row.
    """

    points: Points
    point_offsets: npt.NDArray[np.int64]
    polygon_offsets: npt.NDArray[np.int64]

    @classmethod
    def pack(cls, rows: Sequence[Sequence[Points]]) -> "Polygons":
        """Pack the polygons of all rows, (points, 2) each."""
        polygons = [polygon for row in rows for polygon in row]
        return cls(
            np.concatenate([np.empty((0, 2)), *polygons]),
            np.cumsum([0, *map(len, polygons)], dtype=np.int64),
            np.cumsum([0, *map(len, rows)], dtype=np.int64),
        )

    def __call__(self, row: int) -> list[Points]:
        """Return the polygons of a row, (points, 2) float64 each."""
        first, last = self.polygon_offsets[row : row + 2]
        return [self.points[a:b] for a, b in pairwise(self.point_offsets[first : last + 1])]


def rasterise(
    polygons: Sequence[Points], height: int, width: int, rasterizer: Rasterizer = "coco"
) -> Mask:
    """Rasterize the union of polygons.

    Args:
        polygons: (points, 2) float64 each, x and y in pixels.
        height: height of the mask in pixels.
        width: width of the mask in pixels.
        rasterizer: "coco" uses pycocotools, as in training. "pil" follows PhraseCut's official
            evaluator: it truncates coordinates and also draws the outline, which makes objects
            about half a pixel larger on all sides. "pil" draws a polygon of two points as a
            line, while "coco" draws nothing. See docs/deviations.md (rasterizer).

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
    """Return whether pycocotools' mask of the polygons is empty."""
    encoded = _encode(polygons, height, width)
    return not encoded or not coco_mask.area(encoded).any()


def _encode(polygons: Sequence[Points], height: int, width: int) -> list[dict[str, Any]]:
    # pycocotools would interpret two points as a bounding box
    flat = [polygon.ravel() for polygon in polygons if len(polygon) >= 3]
    encoded: list[dict[str, Any]] = coco_mask.frPyObjects(flat, height, width) if flat else []
    return encoded


def object_aware_crop(mask: Mask, rng: np.random.Generator, share: float = CROP_SHARE) -> Square:
    """Sample a square crop, as large as the image's short side, that shows the object.

    Tries 50 random positions and returns the first where the visible part of the object covers more
    than `share` of the image. If there is none (small objects), returns the position that shows
    most of the object.

    Args:
        mask: (H, W) bool, true on the object.
        rng: random generator.
        share: fraction of the whole image's area, 0 to 1.

    Reference: paper, section 4 ("images are randomly cropped with object location in mind");
        numbers from the authors' code.
    """
    height, width = mask.shape
    side = min(height, width)
    # the crop moves along the long side only, so a difference of two cumulative sums is the number
    # of the object's pixels in the crop
    per_line = np.count_nonzero(mask, axis=0 if width >= height else 1)
    before = np.concatenate([[0], np.cumsum(per_line)])
    starts = rng.integers(0, max(height, width) - side + 1, CROP_TRIES)
    visible = before[starts + side] - before[starts]
    enough = np.flatnonzero(visible > share * mask.size)
    start = int(starts[enough[0] if len(enough) else visible.argmax()])
    return Square(0, start, side) if width >= height else Square(start, 0, side)


def window_on_object(mask: Mask, side: int, share: float, rng: np.random.Generator) -> Square:
    """Sample a square crop of a given size that shows enough of the object.

    Tries 200 random positions and returns the first where more than `share` of the object is
    visible and the object covers more than `share` of the crop. If there is none, returns the
    position that shows most of the object.

    Args:
        mask: (H, W) bool, true on the object; H and W are at least `side`.
        side: side of the crop in pixels.
        share: fraction of the object and of the crop, 0 to 1.
        rng: random generator.

    Reference: authors' code, LVIS data loader.
    """
    tops, lefts = (rng.integers(0, length - side + 1, WINDOW_TRIES) for length in mask.shape)
    sums = cv2.integral(mask.astype(np.uint8))  # (H + 1, W + 1), sums over pixels above and left
    bottoms, rights = tops + side, lefts + side
    visible = sums[bottoms, rights] - sums[tops, rights] - sums[bottoms, lefts] + sums[tops, lefts]
    enough = np.flatnonzero(visible > share * max(int(mask.sum()), side * side))
    chosen = enough[0] if len(enough) else visible.argmax()
    return Square(int(tops[chosen]), int(lefts[chosen]), side)


class PairedResize:
    """Resizes an image (bilinear) and its mask (nearest) to a square, ignoring the aspect ratio.

    The authors use torch's bilinear interpolation with align_corners=True. On photos, the mean
    difference is below 1 % of the grey range (measured by tests/datasets/test_transforms.py). See
    docs/deviations.md (resizing).

    Args:
        size: side of the square in pixels.
    """

    def __init__(self, size: int) -> None:
        """Build the transform; it has no random state."""
        self.size, self.resize = size, A.Resize(size, size, interpolation=cv2.INTER_LINEAR)

    def __call__(self, image: RGB, mask: Mask, crop: Square | None = None) -> tuple[RGB, Mask]:
        """Crop and resize an image and its mask.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) bool.
            crop: part of both to use; by default the whole image.

        Returns:
            Image (size, size, 3) uint8 and mask (size, size) bool.
        """
        return self.image(_part(image, crop)), self.mask(mask, crop)

    def image(self, image: RGB) -> RGB:
        """Resize an image, (H, W, 3) uint8."""
        resized: RGB = self.resize(image=image)["image"]
        return resized

    def mask(self, mask: Mask, crop: Square | None = None) -> Mask:
        """Crop and resize a mask, (H, W) bool."""
        return self.labels(_part(mask, crop).astype(np.uint8)).astype(np.bool_)

    def labels(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Resize a label map, (H, W) uint8."""
        size = (self.size, self.size)
        return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _part(image: npt.NDArray[Any], crop: Square | None) -> npt.NDArray[Any]:
    if crop is None:
        return image
    return image[crop.top : crop.top + crop.side, crop.left : crop.left + crop.side]
