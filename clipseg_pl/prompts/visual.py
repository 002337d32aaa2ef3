"""Visual prompt engineering: from a support image and its mask to the image that CLIP embeds.

Reference: paper section 3.2, Table 2. The authors work on ImageNet-normalised tensors, where
zero is the mean colour: "darkening" and padding go to that grey, not to black. Here the same is
done on uint8 pixels, by blending toward `MEAN_COLOUR`; a Gaussian blur has weights of sum one,
so the two differ by rounding alone.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from clipseg_pl.images import RGB

Mask = npt.NDArray[np.bool_]
Part = tuple[slice, slice]

MEAN_COLOUR = (123.675, 116.28, 103.53)
"""ImageNet's mean RGB on the 0-255 scale, the authors' zero"""
_BLUR_KERNEL = 15
_OUTLINE_THICKNESS = 5
_RED = (255, 0, 0)
_DYE = np.array((1.0, 0.2, 0.2), np.float32)


@dataclass(frozen=True)
class VisualPrompt:
    """What is done to a support image so that CLIP sees the object meant, in this order.

    The defaults are the paper's choice ("crop, blur and intensity 10 %", the best of Table 2).

    Args:
        dye: paint the object in shades of red and everything else in shades of grey.
        outline: draw the object's outer contour in red, five pixels wide.
        blur: sigma in pixels of the Gaussian (15 x 15) laid over the background; 0 leaves it.
        background: intensity of the background, 1 (as it is) to 0 (the mean colour).
        context: crop to the object's box grown on every side by this part of its extent, padded
            to a square with the mean colour and resized by nearest neighbour as the authors do;
            None does not crop.
    """

    dye: bool = False
    outline: bool = False
    blur: float = 3.0
    background: float = 0.1
    context: float | None = 0.1

    def __post_init__(self) -> None:
        """Refuse numbers out of range.

        Raises:
            ValueError: naming the number.
        """
        if not self.blur >= 0:  # NaN is refused too
            raise ValueError(f"visual_prompt.blur is a sigma in pixels, >= 0, not {self.blur}")
        if not 0 <= self.background <= 1:
            raise ValueError(f"visual_prompt.background lies in [0, 1], not {self.background}")
        if self.context is not None and not self.context >= 0:
            raise ValueError(f"visual_prompt.context is None or >= 0, not {self.context}")

    def __call__(self, image: RGB, mask: Mask, side: int | None = None) -> RGB:
        """Make the visual prompt.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) bool, true on the object; where it is empty nothing is cropped.
            side: to which a crop is resized, in pixels; the image's height by default.

        Returns:
            (H, W, 3) uint8, or (side, side, 3) when cropped.
        """
        if self.dye:
            image = _dye(image, mask)
        if self.outline:
            image = _outline(image, mask)
        wanted = side or len(image)
        part = _part_shown(mask, self.context)
        image = _attenuate(image, mask, self.blur, self.background, part)
        return image if self.context is None else _square(image, wanted)


TABLE_2: dict[str, VisualPrompt] = {
    "dye object red": VisualPrompt(dye=True, blur=0, background=1, context=None),
    "red outline": VisualPrompt(outline=True, blur=0, background=1, context=None),
    "intensity 50%": VisualPrompt(blur=0, background=0.5, context=None),
    "intensity 10%": VisualPrompt(blur=0, background=0.1, context=None),
    "intensity 0%": VisualPrompt(blur=0, background=0, context=None),
    "blur": VisualPrompt(blur=3, background=1, context=None),
    "blur + intensity 10%": VisualPrompt(blur=3, background=0.1, context=None),
    "crop large context": VisualPrompt(blur=0, background=1, context=0.5),
    "crop": VisualPrompt(blur=0, background=1, context=0.1),
    "crop & blur": VisualPrompt(blur=3, background=1, context=0.5),
    "crop & intensity 10%": VisualPrompt(blur=0, background=0.1, context=0.1),
    "crop + blur + intensity 10%": VisualPrompt(blur=3, background=0.1, context=0.1),
}
"""The image operations of Table 2 by their printed names. Two cells need a word: the
authors ran "crop & blur" with context 0.5, and printed for "crop & intensity 10%" a run without a
crop; here it is the crop that its name says."""


def _dye(image: RGB, mask: Mask) -> RGB:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.where(mask[..., None], grey * _DYE, grey).round().astype(np.uint8)


def _outline(image: RGB, mask: Mask) -> RGB:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.drawContours(image.copy(), contours, -1, _RED, _OUTLINE_THICKNESS)
    return np.asarray(drawn, np.uint8)


def _part_shown(mask: Mask, context: float | None) -> Part:
    """The object's box and its context, or everything."""
    if context is None:
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    top, bottom = _grown_extent(np.flatnonzero(mask.any(1)), mask.shape[0], context)
    left, right = _grown_extent(np.flatnonzero(mask.any(0)), mask.shape[1], context)
    return slice(top, bottom), slice(left, right)


def _attenuate(image: RGB, mask: Mask, blur: float, background: float, part: Part) -> RGB:
    """A part of the image, what is behind the object blurred and darkened."""
    rows, columns = part
    behind: npt.NDArray[Any] = image[part]
    if blur > 0:
        reach = _BLUR_KERNEL // 2  # pixels around the part that are mixed into it
        above, before = min(reach, rows.start), min(reach, columns.start)
        near = image[
            rows.start - above : rows.stop + reach, columns.start - before : columns.stop + reach
        ]
        blurred = cv2.GaussianBlur(near, (_BLUR_KERNEL, _BLUR_KERNEL), blur)
        behind = blurred[above : above + len(behind), before : before + behind.shape[1]]
    if background < 1:
        grey = (1 - background) * np.array(MEAN_COLOUR, np.float32)
        darkened = np.arange(256, dtype=np.float32)[:, None] * np.float32(background) + grey
        behind = cv2.LUT(behind, darkened.round().astype(np.uint8)[None])
    return np.asarray(cv2.copyTo(image[part], mask[part].view(np.uint8), behind.copy()), np.uint8)


def _square(part: RGB, wanted: int) -> RGB:
    """Pad to a square, resize to the side wanted."""
    side = max(part.shape[:2])
    above, before = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.round(MEAN_COLOUR).astype(np.uint8)
    square[above : above + part.shape[0], before : before + part.shape[1]] = part
    # torch's nearest neighbour, in float32; OpenCV's rounds otherwise now and then
    scaled = np.arange(wanted, dtype=np.float32) * np.float32(side / wanted)
    nearest = scaled.astype(np.int16)
    places = np.stack(np.broadcast_arrays(nearest, nearest[:, None]), -1)  # x and y of each pixel
    shown = cv2.remap(square, places, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
    return np.asarray(shown, np.uint8)


def _grown_extent(occupied: npt.NDArray[np.intp], length: int, context: float) -> tuple[int, int]:
    """First and one-past-last of rising positions, grown by the context, within the length."""
    if not len(occupied):
        return 0, length
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    margin = context * (last - first)
    return int(max(0, first - margin)), int(min(length, last + margin))
