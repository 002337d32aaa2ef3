"""Shared by the writers: scenes that cover every kind, COCO annotations, label maps, images."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.scenes.paint import polygons_of
from datamodules.toy.scenes.scene import Scene, Thing, draw_scene

IGNORED = 255
"""ignore label"""
_JPEG_QUALITY = 95
_COVERING = 2 * len(PASCAL_KINDS)  # number of first images, which show each kind twice
_REPEATS = 10  # extra copies of the required kind in the choices, so that few scenes are rejected


def occurs(scene: Scene, kind: str) -> bool:
    """Return whether a scene contains a thing of a kind."""
    return any(thing.kind == kind for thing in scene.things)


def draw_varied(
    rng: np.random.Generator,
    shape: tuple[int, int],
    index: int,
    shows: Callable[[Scene, str], bool] = occurs,
) -> Scene:
    """Draw a scene such that the first 40 images of a split show each kind at least twice.

    Args:
        rng: The only source of randomness.
        shape: Height and width in pixels.
        index: Index of the image in its split.
        shows: Test of whether a scene shows a kind well enough.
    """
    if index >= _COVERING:
        return draw_scene(rng, shape, kinds=PASCAL_KINDS)
    kind = PASCAL_KINDS[index % len(PASCAL_KINDS)]
    while True:
        scene = draw_scene(rng, shape, kinds=(*PASCAL_KINDS, *(kind,) * _REPEATS))
        if shows(scene, kind):
            return scene


def flat_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return the outlines of a mask, (H, W), as COCO writes them: x and y of all points."""
    return [[value for point in polygon for value in point] for polygon in polygons_of(mask)]


def outline(thing: Thing) -> dict[str, Any]:
    """Return the mask of a thing as in COCO's annotations, in pixels; boxes are x, y, w, h."""
    return {
        "segmentation": flat_polygons(thing.mask),
        "area": float(thing.mask.sum()),
        "bbox": [float(value) for value in thing.box],
    }


def label_map(scene: Scene, labels: Mapping[str, int], border: bool = False) -> NDArray[np.uint8]:
    """Return the label map of a scene.

    Args:
        scene: The scene.
        labels: Kind -> label, 1 to 254.
        border: Give the ignore label to a line around each thing. The line is one pixel wide. It is
            inside the thing at its top and left, and outside at its bottom and right.

    Returns:
        (H, W) uint8; 0 in the background, 255 (ignore label) on the border.
    """
    owner = np.zeros(scene.image.shape[:2], np.uint8)
    result = np.zeros_like(owner)
    for number, thing in enumerate(scene.things, 1):
        owner[thing.mask] = number
        result[thing.mask] = labels[thing.kind]
    if border:
        # a 2 x 2 window gives a line one pixel wide, which leaves labels on thin things
        edge = cv2.morphologyEx(owner, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
        result[edge > 0] = IGNORED
    return result


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image, (H, W, 3) uint8 RGB."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    path.write_bytes(data.tobytes())


def write_labels(path: Path, labels: NDArray[np.uint8], palette: bytes | None = None) -> None:
    """Write labels, (H, W) uint8, as PNG: mode P with a `palette` of 256 RGB colours, L without."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)  # converts mode L to P without a change of the labels
    image.save(path)
