"""Visual prompt engineering: turn a support image and its mask into the image that CLIP embeds.

The authors modify ImageNet-normalised tensors, in which zero is the mean colour, so they darken
and pad with grey instead of black. This module does the same on uint8 pixels by blending them with
`MEAN_COLOUR`. The weights of a Gaussian blur sum to one, so both versions differ only by rounding.
See docs/deviations.md (visual-prompt-pixels).

Reference: paper, section 3.2 and Table 2.
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
"""mean RGB of ImageNet, 0 to 255; this colour is zero in the authors' normalised tensors"""
_BLUR_KERNEL = 15
_OUTLINE_THICKNESS = 5
_RED = (255, 0, 0)
_DYE = np.array((1.0, 0.2, 0.2), np.float32)


@dataclass(frozen=True)
class VisualPrompt:
    """Modify a support image so that CLIP focuses on the object in its mask.

    The operations are applied in the order of the arguments. The defaults are the paper's choice,
    "crop, blur and intensity 10 %", the best row of Table 2.

    Args:
        dye: colour the object in shades of red and everything else in shades of grey.
        outline: draw the outer contour of the object in red, five pixels wide.
        blur: sigma in pixels of the 15 x 15 Gaussian blur of the background; 0 disables it.
        background: intensity of the background, from 1 (unchanged) to 0 (mean colour).
        context: margin of the crop around the bounding box of the object, as a fraction of the
            box's width and height. The crop is padded to a square with the mean colour and resized
            by nearest neighbour, as in the authors' code. None disables cropping.

    Reference: paper, section 3.2 and Table 2.
    """

    dye: bool = False
    outline: bool = False
    blur: float = 3.0
    background: float = 0.1
    context: float | None = 0.1

    def __post_init__(self) -> None:
        """Check the ranges of the values.

        Raises:
            ValueError: if a value is out of range or NaN.
        """
        if not self.blur >= 0:  # also true for NaN
            raise ValueError(f"visual_prompt.blur must be a sigma >= 0 in pixels, not {self.blur}")
        if not 0 <= self.background <= 1:
            raise ValueError(f"visual_prompt.background must be in [0, 1], not {self.background}")
        if self.context is not None and not self.context >= 0:
            raise ValueError(f"visual_prompt.context must be null or >= 0, not {self.context}")

    def __call__(self, image: RGB, mask: Mask, side: int | None = None) -> RGB:
        """Create the visual prompt.

        Args:
            image: (H, W, 3) uint8 RGB.
            mask: (H, W) bool, true on the object. With an empty mask, the crop is the whole image.
            side: side in pixels of the resized crop; the image's height by default.

        Returns:
            (H, W, 3) uint8, or (side, side, 3) if `context` is set.
        """
        if self.dye:
            image = _dye(image, mask)
        if self.outline:
            image = _outline(image, mask)
        wanted = side or len(image)
        part = _crop_part(mask, self.context)
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
"""Image operations of Table 2, by the names that the paper prints. "crop & blur" has context 0.5,
as in the authors' run. The result that the paper prints for "crop & intensity 10%" is from a run
without a crop. This table follows the name and crops. See docs/deviations.md (table-2-rows)."""


def _dye(image: RGB, mask: Mask) -> RGB:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    return np.where(mask[..., None], grey * _DYE, grey).round().astype(np.uint8)


def _outline(image: RGB, mask: Mask) -> RGB:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = cv2.drawContours(image.copy(), contours, -1, _RED, _OUTLINE_THICKNESS)
    return np.asarray(drawn, np.uint8)


def _crop_part(mask: Mask, context: float | None) -> Part:
    """Return the object's bounding box grown by the context; the whole image for context None."""
    if context is None:
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    top, bottom = _grown_extent(np.flatnonzero(mask.any(1)), mask.shape[0], context)
    left, right = _grown_extent(np.flatnonzero(mask.any(0)), mask.shape[1], context)
    return slice(top, bottom), slice(left, right)


def _attenuate(image: RGB, mask: Mask, blur: float, background: float, part: Part) -> RGB:
    """Cut out a part of the image and blur and darken its background."""
    rows, columns = part
    behind: npt.NDArray[Any] = image[part]
    if blur > 0:
        reach = _BLUR_KERNEL // 2  # width in pixels of the border whose pixels blur into the part
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
    """Pad to a square and resize to (wanted, wanted, 3)."""
    side = max(part.shape[:2])
    above, before = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
    square = np.empty((side, side, 3), np.uint8)
    square[:] = np.round(MEAN_COLOUR).astype(np.uint8)
    square[above : above + part.shape[0], before : before + part.shape[1]] = part
    # same rounding as torch's nearest neighbour in float32; OpenCV's own sometimes differs
    scaled = np.arange(wanted, dtype=np.float32) * np.float32(side / wanted)
    nearest = scaled.astype(np.int16)
    source = np.stack(np.broadcast_arrays(nearest, nearest[:, None]), -1)  # x and y of each pixel
    resized = cv2.remap(square, source, None, cv2.INTER_NEAREST)  # type: ignore[call-overload]
    return np.asarray(resized, np.uint8)


def _grown_extent(occupied: npt.NDArray[np.intp], length: int, context: float) -> tuple[int, int]:
    """Return the range of sorted positions, grown by the context and clipped to [0, length]."""
    if not len(occupied):
        return 0, length
    first, last = int(occupied[0]), int(occupied[-1]) + 1
    margin = context * (last - first)
    return int(max(0, first - margin)), int(min(length, last + margin))
