"""Stuff in the background of a scene: sky, grass, sea, road and wall."""

import cv2
import numpy as np
from numpy.typing import NDArray

STUFF: tuple[str, ...] = ("sky", "grass", "sea", "road", "wall")

_BASES = {
    "sky": ((150, 200, 240), (185, 222, 246), (120, 178, 232)),
    "grass": ((132, 178, 84), (112, 160, 74), (156, 190, 96)),
    "sea": ((44, 128, 160), (62, 146, 170), (30, 108, 146)),
    "road": ((124, 124, 130), (104, 104, 110), (146, 144, 146)),
    "wall": ((222, 202, 172), (206, 176, 150), (214, 212, 200)),
}


def _sky(rng: np.random.Generator, image: NDArray[np.uint8], top: int, bottom: int) -> None:
    width, unit = image.shape[1], image.shape[0] / 64
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.uniform(0, width), rng.uniform(top, top + 0.8 * (bottom - top))
        for step in (-5, 0, 5):
            axes = (round(rng.uniform(4, 7) * unit), round(rng.uniform(2, 4) * unit))
            cv2.ellipse(
                image, (round(x + step * unit), round(y)), axes, 0, 0, 360, (244, 248, 250), -1
            )


def _grass(rng: np.random.Generator, image: NDArray[np.uint8], top: int, bottom: int) -> None:
    height, width = image.shape[:2]
    length = max(2, height // 28)
    area = (bottom - top) * width * (64 / height) ** 2
    for x, y in rng.integers((0, top), (width, max(bottom, top + 1)), (int(area / 60) + 1, 2)):
        cv2.line(image, (int(x), int(y)), (int(x) + 1, int(y) - length), (84, 128, 56), 1)


def _sea(rng: np.random.Generator, image: NDArray[np.uint8], top: int, bottom: int) -> None:
    height, width = image.shape[:2]
    unit = height / 64
    for y in np.arange(top + 3 * unit, bottom, 7 * unit):
        xs = np.arange(0, width + 4, 3)
        waves = y + 1.4 * unit * np.sin(xs / (2.2 * unit) + rng.uniform(0, 6))
        points = np.stack([xs, waves], 1).round().astype(np.int32)
        cv2.polylines(image, [points], False, (132, 196, 214), max(1, round(unit * 0.8)))


def _road(rng: np.random.Generator, image: NDArray[np.uint8], top: int, bottom: int) -> None:
    height, width = image.shape[:2]
    dash = height // 7
    y = int(rng.integers(top, max(bottom, top + 1)))
    for x in range(-int(rng.integers(0, dash + 1)), width, 2 * dash):
        cv2.line(image, (x, y), (x + dash, y), (232, 226, 196), max(1, height // 40))


def _wall(rng: np.random.Generator, image: NDArray[np.uint8], top: int, bottom: int) -> None:
    height, width = image.shape[:2]
    brick = height // 9
    dark = tuple(int(v * 0.8) for v in image[min(top, height - 1), 0])
    for row, y in enumerate(range(top + int(rng.integers(1, brick + 1)), bottom, brick)):
        cv2.line(image, (0, y), (width, y), dark, 1)
        for x in range(brick if row % 2 else 0, width, 2 * brick):
            cv2.line(image, (x, y), (x, y + brick), dark, 1)


_DETAILS = {"sky": _sky, "grass": _grass, "sea": _sea, "road": _road, "wall": _wall}


def draw_background(
    rng: np.random.Generator, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one to three horizontal bands of stuff; sky or wall, if any, is at the top.

    Args:
        rng: Source of randomness for the layout, the shades and the details.
        shape: Height and width in pixels.

    Returns:
        RGB image (h, w, 3) uint8, and the index into `STUFF` of every pixel, (h, w) uint8.
    """
    height, width = shape
    layout = [str(rng.choice(("sky", "sky", "wall", "wall", "")))]
    layout += [
        str(name) for name in rng.permutation(("grass", "sea", "road"))[: 1 + (rng.random() < 0.3)]
    ]
    if layout[0] == "wall" and rng.random() < 0.25:
        layout = ["wall"]
    layout = [name for name in layout if name]
    edges = np.sort(rng.uniform(0.22, 0.8, len(layout) - 1)) * height
    tops = np.concatenate(((0,), edges)).astype(int)
    image = np.empty((height, width, 3), np.uint8)
    regions = np.empty((height, width), np.uint8)
    tilt = rng.uniform(-0.08, 0.08, len(layout)) * height * (rng.random() < 0.5)
    columns = np.linspace(-0.5, 0.5, width)
    for index, (name, top) in enumerate(zip(layout, tops, strict=True)):
        bottom = int(tops[index + 1]) if index + 1 < len(layout) else height
        base = np.array(_BASES[name][rng.integers(3)]) + rng.uniform(-10, 10, 3)
        fade = np.linspace(rng.uniform(0.9, 1.0), rng.uniform(1.0, 1.08), height)[:, None, None]
        layer = np.broadcast_to(np.clip(base * fade, 0, 255), (height, width, 3)).astype(
            np.uint8, order="C"
        )
        margin = int(abs(tilt[index])) + 1
        _DETAILS[name](
            rng, layer, max(0, int(top) - margin if index else 0), min(height, bottom + margin)
        )
        if index == 0:
            image[:], regions[:] = layer, STUFF.index(name)
            continue
        below = np.arange(height)[:, None] >= top + tilt[index] * columns
        np.copyto(image, layer, where=below[..., None])
        np.copyto(regions, np.uint8(STUFF.index(name)), where=below)
    return image, regions
