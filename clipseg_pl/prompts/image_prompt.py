"""Prompts that show what is meant, alone or blended with words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import cv2
import numpy as np

from clipseg_pl.images import RGB, Picture, load_picture
from clipseg_pl.prompts.masks import exif_note, load_mask
from clipseg_pl.prompts.visual import Mask, VisualPrompt

Box = tuple[float, float, float, float]
_ENGINEERING = VisualPrompt()
_LONGEST_STRIP = 16  # sides of an example's long side, once it is scaled
_LEAST_SHARE = 1 / 4  # of a side; training's crops show objects of 5 % of the area


@dataclass(frozen=True)
class ImagePrompt:
    """An example of what to look for: a support image, and what is meant in it.

    >>> by_mask = ImagePrompt("cat.jpg", mask="cat_mask.png")
    >>> by_box = ImagePrompt("cat.jpg", box=(40, 30, 100, 90))
    >>> by_transparency = ImagePrompt("cat_cut_out.png")
    >>> by_mask.engineered(96).shape
    (96, 96, 3)

    Args:
        image: the support image: a file, PIL image, array or tensor (see `load_picture`).
        mask: an image of its size, the object bright (above half of the brightest; for palettes
            of colours and for transparency see `load_mask`).
        box: left, top, right and bottom of the object in pixels, in place of a mask.
            With neither, the image's alpha channel says what is meant; an image that is nowhere
            transparent is meant as a whole.
    """

    image: Picture
    mask: Picture | None = None
    box: Box | None = None

    def __str__(self) -> str:
        """How results call it: the name of its file, if it has one."""
        return Path(_file(self.image)).stem

    def load(self) -> tuple[RGB, Mask]:
        """The support image, (H, W, 3) uint8, and what is meant in it, (H, W) bool.

        Raises:
            UnreadableImageError: naming the file.
            ValueError: mask and box together; a mask of another size, or empty; a box that holds
                no pixel of the image.
        """
        image, alpha = load_picture(self.image)
        if self.mask is not None and self.box is not None:
            raise ValueError(f"{_file(self.image)}: give a mask or a box, not both")
        if self.mask is not None:
            mask = load_mask(self.mask)
            if mask.shape != image.shape[:2]:
                raise ValueError(
                    f"{_file(self.mask)}: the mask is {_size(mask)} pixels, its image "
                    f"{_size(image)}: they must be equal"
                    + exif_note(image.shape[:2], mask.shape, self.image, self.mask)
                )
        elif self.box is not None:
            mask = _fill(self.box, image)
        elif alpha is not None:
            mask = alpha >= 128
        else:
            mask = np.ones(image.shape[:2], np.bool_)
        if not mask.any():
            what = "box holds no pixel of it" if self.box else "mask is empty"
            given = self.image if self.mask is None else self.mask
            turned = exif_note(image.shape[:2], image.shape[1::-1], self.image) if self.box else ""
            raise ValueError(f"{_file(given)}: the {what}: say what is meant in the image{turned}")
        return image, mask

    def engineered(self, side: int) -> RGB:
        """What CLIP is shown: the object cropped, all else blurred and darkened (`VisualPrompt`).

        As in training, the short side is brought to `side` first, so that the blur has its width;
        of an object much smaller than its photo, a square around it is.

        Args:
            side: of the result in pixels.

        Returns:
            (side, side, 3) uint8.
        """
        image, mask = _around_object(*self.load())
        # of a strip the long side is padded to a square, which must stay small
        scale = min(side / min(mask.shape), _LONGEST_STRIP * side / max(mask.shape))
        width, height = (max(1, round(length * scale)) for length in mask.shape[::-1])
        size = width, height
        smooth = cv2.INTER_AREA if scale < 1 / 2 else cv2.INTER_LINEAR  # the second skips pixels
        resized = np.asarray(cv2.resize(image, size, interpolation=smooth), np.uint8)
        nearest = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return _ENGINEERING(resized, nearest.astype(np.bool_), side)


@dataclass(frozen=True)
class Blend:
    """Words and examples together.

    >>> print(Blend("a cat", ImagePrompt("cat.jpg", mask="cat_mask.png"), weight=0.5))
    a cat + cat

    Args:
        text: the words.
        image: one example, or several, which are averaged.
        weight: of the text, 0 (examples alone) to 1 (words alone).

    Raises:
        ValueError: a weight out of range; no example.
    """

    text: str
    image: ImagePrompt | Sequence[ImagePrompt]
    weight: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a weight out of range, and a blend of nothing."""
        if not isinstance(self.image, ImagePrompt) and not self.image:
            raise ValueError("a Blend needs an example")
        if not 0 <= self.weight <= 1:  # NaN is refused too
            raise ValueError(f"the weight of the text lies in [0, 1], not {self.weight}")

    def __str__(self) -> str:
        """How results call it."""
        return f"{self.text} + {describe(self.image)}"


Prompt = str | ImagePrompt | Sequence[ImagePrompt] | Blend
"""words; an example; several examples, averaged; both"""


def describe(prompt: Prompt) -> str:
    """How results call a prompt."""
    if isinstance(prompt, str | ImagePrompt | Blend):
        return str(prompt)
    return ", ".join(map(str, prompt))


def split(prompt: Prompt) -> tuple[str, Sequence[ImagePrompt], float]:
    """Words, examples, and the weight of the words.

    Raises:
        ValueError: for an empty prompt; for examples that are no `ImagePrompt`.
    """
    examples: Sequence[ImagePrompt] = ()
    if isinstance(prompt, str):
        words, weight = prompt, 1.0
    elif isinstance(prompt, Blend):
        words, examples, weight = prompt.text, _listed(prompt.image), prompt.weight
    else:
        words, examples, weight = "", _listed(prompt), 0.0
    if not (examples if weight == 0 and not words else words.strip()):
        raise ValueError("give at least one prompt, none of them empty")
    return words, examples, weight


def _listed(examples: ImagePrompt | Sequence[ImagePrompt]) -> Sequence[ImagePrompt]:
    listed = [examples] if isinstance(examples, ImagePrompt) else examples
    several = isinstance(listed, Sequence)
    if not (several and all(isinstance(one, ImagePrompt) for one in listed)):
        raise ValueError(
            f"an example is an ImagePrompt, or a list of them, not {examples!r:.60}; a prompt is "
            "words, an example, or a Blend of both"
        )
    return listed


def _file(picture: Picture) -> str:
    """How messages call a picture."""
    return str(picture) if isinstance(picture, str | PathLike) else "image prompt"


def _fill(box: Box, image: RGB) -> Mask:
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)):
        raise ValueError(f"a box is four finite numbers of pixels, not {box}")
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.bool_)
    rows = slice(round(min(max(top, 0), height)), round(min(max(bottom, 0), height)))
    mask[rows, round(min(max(left, 0), width)) : round(min(max(right, 0), width))] = True
    return mask


def _around_object(image: RGB, mask: Mask) -> tuple[RGB, Mask]:
    """Cut out a square around an object that is small for its photo; else all of it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = int(extent / _LEAST_SHARE)
    if side >= min(mask.shape):
        return image, mask
    starts = [
        min(max((int(places[0]) + int(places[-1]) + 1 - side) // 2, 0), length - side)
        for places, length in ((rows, mask.shape[0]), (columns, mask.shape[1]))
    ]
    part = slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)
    return np.ascontiguousarray(image[part]), np.ascontiguousarray(mask[part])


def _size(image: RGB | Mask) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
