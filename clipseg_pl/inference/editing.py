"""Edit masks for inpainting and compositing: combine, grow, invert and feather."""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Masks = npt.NDArray[np.bool_]
Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Edits:
    """Edits of the masks of a photo. All masks stay aligned with the photo.

    Edits apply in this order: union, grow, minus, invert, feather. Therefore the union is grown as
    one shape. The masks of the minus prompts are not grown themselves. Growing never enters them,
    but a feathered edge does.

    Args:
        union: merge the masks of all prompts into one.
        grow: distance in pixels. Adds all pixels within this distance of the mask. If negative,
            removes all pixels within this distance of the background. Pixels beyond the border of
            the photo do not count as background, so shrinking does not start there.
        invert: swap mask and background.
        feather: distance in pixels. Values fall linearly from 255 (this distance inside the edge)
            to 0 (this distance outside). Thresholding at 128 gives back the mask.

    Raises:
        ValueError: if a distance is not finite, or `feather` is negative.
    """

    union: bool = False
    grow: float = 0.0
    invert: bool = False
    feather: float = 0.0

    def __post_init__(self) -> None:
        """Check the distances."""
        if not math.isfinite(self.grow):
            raise ValueError(f"grow must be a finite number of pixels, not {self.grow}")
        if not 0 <= self.feather < math.inf:
            raise ValueError(f"feather must be at least 0 pixels, not {self.feather}")


UNEDITED = Edits()
_ALL = ("minus", "union", "grow", "invert", "feather")
_REFUSED = {
    "labels": ("label maps (argmax)", _ALL, "they cannot be edited"),
    "npy": ("the format npy", _ALL, "it contains unedited probabilities"),
    "rle": ("the format rle", ("feather",), "run-length encoded masks have no soft edge"),
    "coco": ("the format coco", ("feather",), "polygons have no soft edge"),
    "yolo": ("the format yolo", ("feather",), "polygons have no soft edge"),
    "soft": ("the format soft", ("grow", "feather"), "probabilities have no edge"),
}


def check_form(form: str, edits: Edits, minus: bool = False) -> None:
    """Check that masks in an output format of `MaskFiles` can be edited in this way.

    Args:
        form: output format.
        edits: edits of the masks.
        minus: whether masks of other prompts are subtracted.

    Raises:
        ValueError: if the format cannot show one of the edits.
    """
    output, refused, reason = _REFUSED.get(form, ("", (), ""))
    for name in refused:
        if minus if name == "minus" else getattr(edits, name):
            raise ValueError(f"{name} cannot be combined with {output}: {reason}")


def edit_masks(masks: Masks, minus: Masks, edits: Edits) -> Masks:
    """Apply all edits but the feathering to the masks of a photo.

    Args:
        masks: (P, H, W), at least one mask.
        minus: (M, H, W), removed from every mask; M may be 0.
        edits: edits, in the order of `Edits`.

    Returns:
        (Q, H, W), where Q is 1 with `edits.union`, else P.
    """
    if edits.union:
        masks = np.logical_or.reduce(masks, keepdims=True)
    if edits.grow:
        masks = np.stack([grow(mask, edits.grow) for mask in masks])
    if len(minus):
        masks = masks & ~minus.any(0)
    return ~masks if edits.invert else masks


def edit_probabilities(
    probability: npt.NDArray[np.float32], minus: npt.NDArray[np.float32], edits: Edits
) -> Grey:
    """Apply edits to probabilities p, the fuzzy counterpart of `edit_masks`.

    The union is the highest p of all prompts. Minus prompts with highest probability q turn p into
    min(p, 1 - q). Inversion turns p into 1 - p.

    Args:
        probability: (P, H, W), at least one prompt.
        minus: (M, H, W); M may be 0.
        edits: edits.

    Returns:
        (Q, H, W), probabilities from 0 to 1 mapped to 0 to 255.

    Raises:
        ValueError: if `edits` contains `grow` or `feather`.
    """
    if edits.grow or edits.feather:
        raise ValueError("grow and feather need masks: probabilities have no edge")
    if edits.union:
        probability = probability.max(0, keepdims=True)
    if len(minus):
        probability = np.minimum(probability, 1 - minus.max(0))
    if edits.invert:
        probability = 1 - probability
    return np.rint(probability * 255).astype(np.uint8)


def grow(mask: Masks, pixels: float) -> Masks:
    """Grow a mask (H, W) by a distance in pixels, or shrink it by a negative one, see `Edits`."""
    if pixels < 0:
        return _distance_to_background(mask) > -pixels
    return _distance_to_background(~mask) <= pixels


def feather(mask: Masks, pixels: float) -> Grey:
    """Return a mask (H, W) with a soft edge, see `Edits`; 0 and 255 if `pixels` is 0."""
    hard = mask.astype(np.uint8) * 255
    if not pixels:
        return hard
    # the edge lies half a pixel before the centre of the nearest pixel on the other side
    inside = _distance_to_background(mask) - 0.5
    outside = _distance_to_background(~mask) - 0.5
    ramp = np.clip(0.5 + np.where(mask, inside, -outside) / (2 * pixels), 0, 1)
    return np.rint(ramp * 255).astype(np.uint8)


def _distance_to_background(mask: Masks) -> npt.NDArray[Any]:
    """Return the distance of each pixel to the nearest pixel that is False; infinite if none is."""
    if mask.all():
        return np.full(mask.shape, np.inf, np.float32)
    # exact, unlike a morphological kernel, and its time does not depend on the distance
    distance: npt.NDArray[Any] = cv2.distanceTransform(
        mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
    )
    return distance
