"""What a confusion matrix says: rows are true classes, columns predicted ones."""

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor


def class_iou(pixels: Tensor) -> Tensor:
    """IoU of each class, (num_classes,) float64; 0 for a class neither present nor predicted."""
    hit = pixels.diagonal().double()
    union = pixels.sum(0) + pixels.sum(1) - hit
    return hit / union.clamp(min=1)


class GeneralisedIoU(NamedTuple):
    """Means over classes of their IoU, 0 to 1."""

    seen: float
    unseen: float
    harmonic: float
    """2 seen unseen / (seen + unseen)"""
    overall: float


def generalised_iou(pixels: Tensor, unseen: Collection[int]) -> GeneralisedIoU:
    """Summarise a confusion matrix as JoEm's evaluator does; the background counts as seen.

    Args:
        pixels: (num_classes, num_classes).
        unseen: class ids, at least one, and not all.
    """
    iou = class_iou(pixels)
    seen = [number for number in range(len(iou)) if number not in unseen]
    of_seen, of_unseen = float(iou[seen].mean()), float(iou[list(unseen)].mean())
    both = of_seen + of_unseen
    harmonic = 2 * of_seen * of_unseen / both if both else 0.0
    return GeneralisedIoU(of_seen, of_unseen, harmonic, float(iou.mean()))
