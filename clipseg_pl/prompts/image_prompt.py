"""Image prompts, alone or blended with a text prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from clipseg_pl.images import RGB, Picture, Readable, load_picture, name_of, read_file_object
from clipseg_pl.photo_files import is_url, name_of_url
from clipseg_pl.prompts.masks import exif_note, load_mask
from clipseg_pl.prompts.visual import Mask, VisualPrompt

Box = tuple[float, float, float, float]
_ENGINEERING = VisualPrompt()
_LONGEST_STRIP = 16
"""maximum long side of a resized support image, in multiples of the side of the result"""
_LEAST_SHARE = 1 / 4
"""A support image is first cropped to a square around its object if the longer side of the object's
bounding box is below this share of the shorter side of the image. In training, objects also cover
at least about 5 % of their crop."""


@dataclass(frozen=True)
class ImagePrompt:
    """A support image and the object in it, as a prompt.

    Examples:
        >>> by_mask = ImagePrompt("cat.jpg", mask="cat_mask.png")
        >>> by_box = ImagePrompt("cat.jpg", box=(40, 30, 100, 90))
        >>> by_transparency = ImagePrompt("cat_cut_out.png")
        >>> by_mask.engineered(96).shape
        (96, 96, 3)

    Args:
        image: the support image: a path, URL, bytes, file object, PIL image, array or tensor (see
            `load_picture`). A file object is read at once. The others are loaded when the prompt is
            used.
        mask: a mask of the same size as the image. In a grey mask, the object is brighter than half
            of the maximum. See `load_mask` for palettes and transparency.
        box: left, top, right and bottom of the object in pixels, instead of a mask. Without a mask
            or box, the object is the opaque part of the image, or the whole image if it has no
            alpha channel.
    """

    image: Picture
    mask: Picture | None = None
    box: Box | None = None

    def __post_init__(self) -> None:
        """Read file objects, because a prompt may be used several times."""
        for name in ("image", "mask"):
            if isinstance(picture := getattr(self, name), Readable):
                object.__setattr__(self, name, read_file_object(picture))

    def __str__(self) -> str:
        """Return the prompt's name in results: the image's file name without its extension."""
        image = self.image
        return Path(name_of_url(image) if is_url(image) else _file(image)).stem

    def load(self) -> tuple[RGB, Mask]:
        """Load the support image, (H, W, 3) uint8, and the mask of its object, (H, W) bool.

        Raises:
            UnreadableImageError: if a file cannot be downloaded or read as an image.
            ValueError: if both mask and box are given, if the mask is empty or differs in size
                from the image, or if the box contains no pixel of the image.
        """
        image, alpha = load_picture(self.image)
        if self.mask is not None and self.box is not None:
            raise ValueError(f"{_file(self.image)}: give a mask or a box, not both")
        if self.mask is not None:
            mask = load_mask(self.mask)
            if mask.shape != image.shape[:2]:
                raise ValueError(
                    f"{_file(self.mask)}: the mask is {_size(mask)} pixels, but its image is "
                    f"{_size(image)}"
                    + exif_note(image.shape[:2], mask.shape, self.image, self.mask)
                )
        elif self.box is not None:
            mask = _fill(self.box, image)
        elif alpha is not None:
            mask = alpha >= 128
        else:
            mask = np.ones(image.shape[:2], np.bool_)
        if not mask.any():
            problem = "box contains no pixel of the image" if self.box else "mask is empty"
            source = self.image if self.mask is None else self.mask
            note = exif_note(image.shape[:2], image.shape[1::-1], self.image) if self.box else ""
            raise ValueError(f"{_file(source)}: the {problem}{note}")
        return image, mask

    def engineered(self, side: int) -> RGB:
        """Return the visual prompt: object cropped, background blurred and darkened.

        As in training, the image is first resized so that its short side is `side` pixels, since
        the width of the blur is in pixels. If the object is much smaller than its photo, a square
        around the object is used instead of the photo.

        Args:
            side: side of the result in pixels.

        Returns:
            (side, side, 3) uint8.
        """
        image, mask = _around_object(*self.load())
        # a long image is reduced further: its crop is later padded to a square of its long side,
        # which must fit in memory
        scale = min(side / min(mask.shape), _LONGEST_STRIP * side / max(mask.shape))
        width, height = (max(1, round(length * scale)) for length in mask.shape[::-1])
        size = width, height
        # INTER_LINEAR has no antialiasing
        smooth = cv2.INTER_AREA if scale < 1 / 2 else cv2.INTER_LINEAR
        resized = np.asarray(cv2.resize(image, size, interpolation=smooth), np.uint8)
        nearest = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        return _ENGINEERING(resized, nearest.astype(np.bool_), side)


@dataclass(frozen=True)
class Blend:
    """A blend of a text prompt and image prompts.

    Examples:
        >>> print(Blend("a cat", ImagePrompt("cat.jpg", mask="cat_mask.png"), weight=0.5))
        a cat + cat

    Args:
        text: the phrase.
        image: one image prompt, or several, which are averaged.
        weight: weight of the text, from 0 (images only) to 1 (text only).

    Raises:
        ValueError: if the weight is out of range, or if there is no image prompt.
    """

    text: str
    image: ImagePrompt | Sequence[ImagePrompt]
    weight: float = 0.5

    def __post_init__(self) -> None:
        """Check the weight and the image prompts."""
        if not isinstance(self.image, ImagePrompt) and not self.image:
            raise ValueError("a Blend needs at least one ImagePrompt")
        if not 0 <= self.weight <= 1:  # also true for NaN
            raise ValueError(f"the weight of the text must be in [0, 1], not {self.weight}")

    def __str__(self) -> str:
        """Return the name of the prompt in results."""
        return f"{self.text} + {describe(self.image)}"


Prompt = str | ImagePrompt | Sequence[ImagePrompt] | Blend
"""a phrase, an image prompt, several image prompts (averaged), or a blend of both"""


def describe(prompt: Prompt) -> str:
    """Return the name of a prompt in results."""
    if isinstance(prompt, str | ImagePrompt | Blend):
        return str(prompt)
    return ", ".join(map(str, prompt))


def split(prompt: Prompt) -> tuple[str, Sequence[ImagePrompt], float]:
    """Split a prompt into its phrase, its image prompts and the weight of the phrase.

    Raises:
        ValueError: if the prompt is empty, or if a part of it has another type than in `Prompt`.
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
    is_sequence = isinstance(listed, Sequence)
    if not (is_sequence and all(isinstance(example, ImagePrompt) for example in listed)):
        raise ValueError(
            f"expected an ImagePrompt or a list of ImagePrompts, not {examples!r:.60}; a prompt is "
            "a string, an ImagePrompt, a list of ImagePrompts or a Blend"
        )
    return listed


def _file(picture: Picture) -> str:
    """Return the name of a picture in error messages."""
    return name_of(picture) or "image prompt"


def _fill(box: Box, image: RGB) -> Mask:
    left, top, right, bottom = box
    if not all(map(math.isfinite, box)):
        raise ValueError(f"a box must be four finite numbers in pixels, not {box}")
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.bool_)
    rows = slice(round(min(max(top, 0), height)), round(min(max(bottom, 0), height)))
    mask[rows, round(min(max(left, 0), width)) : round(min(max(right, 0), width))] = True
    return mask


def _around_object(image: RGB, mask: Mask) -> tuple[RGB, Mask]:
    """Crop to a square around a small object; return the whole image if the object is large."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = int(extent / _LEAST_SHARE)
    if side >= min(mask.shape):
        return image, mask
    starts = [
        min(max((int(used[0]) + int(used[-1]) + 1 - side) // 2, 0), length - side)
        for used, length in ((rows, mask.shape[0]), (columns, mask.shape[1]))
    ]
    part = slice(starts[0], starts[0] + side), slice(starts[1], starts[1] + side)
    return np.ascontiguousarray(image[part]), np.ascontiguousarray(mask[part])


def _size(image: RGB | Mask) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
