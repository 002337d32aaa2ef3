"""What the writers share: scenes in which every kind occurs, label maps and picture files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.scene import Scene, draw_scene

IGNORED = 255
"""label of pixels that do not count"""
_JPEG_QUALITY = 95
_SURE = 2 * len(KINDS)  # first pictures of a split; each kind has a query and a support then
_FAVOUR = 10  # how often the kind that must occur stands among the choices, to draw few scenes


def occurs(scene: Scene, kind: str) -> bool:
    """Whether a thing of a kind is in a scene."""
    return any(thing.kind == kind for thing in scene.things)


def draw_varied(
    rng: np.random.Generator,
    shape: tuple[int, int],
    index: int,
    shows: Callable[[Scene, str], bool] = occurs,
) -> Scene:
    """Draws a scene; the first forty pictures of a split show each kind at least twice.

    Args:
        rng: The only source of randomness.
        shape: Height and width in pixels.
        index: Of the picture in its split.
        shows: Whether a kind can be seen well enough in a scene.

    Returns:
        The scene.
    """
    if index >= _SURE:
        return draw_scene(rng, shape)
    kind = KINDS[index % len(KINDS)]
    while True:
        scene = draw_scene(rng, shape, kinds=(*KINDS, *(kind,) * _FAVOUR))
        if shows(scene, kind):
            return scene


def label_map(scene: Scene, labels: Mapping[str, int], border: bool = False) -> NDArray[np.uint8]:
    """Labels of the pixels of a scene.

    Args:
        scene: The scene.
        labels: Kind -> label, 1 to 254.
        border: Ignore a line, one pixel wide, around each thing: half of it lies within.

    Returns:
        (H, W) uint8; 0 where there is no thing, 255 on the border.
    """
    owner = np.zeros(scene.image.shape[:2], np.uint8)
    result = np.zeros_like(owner)
    for number, thing in enumerate(scene.things, 1):
        owner[thing.mask] = number
        result[thing.mask] = labels[thing.kind]
    if border:
        # a window of two by two makes a line one pixel wide, which thin things survive
        edge = cv2.morphologyEx(owner, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
        result[edge > 0] = IGNORED
    return result


def write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes a picture of (H, W, 3) uint8 RGB."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    path.write_bytes(data.tobytes())


def write_labels(path: Path, labels: NDArray[np.uint8], palette: bytes | None = None) -> None:
    """Writes (H, W) uint8 labels as PNG: of mode P with 256 RGB colours in a palette, else L."""
    image = Image.fromarray(labels)
    if palette is not None:
        image.putpalette(palette)  # turns mode L into P and keeps the labels
    image.save(path)
