"""Who is taken for whom, over a whole set."""

from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class ConfusionMatrix(Metric):
    """Pixels by true class (rows) and predicted class (columns), exact and summed across ranks.

    Args:
        num_classes: ids lie in [0, num_classes).
    """

    pixels: Tensor
    full_state_update = False

    def __init__(self, num_classes: int, **kwargs: Any) -> None:  # noqa: ANN401 - the same
        """Create the state."""
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.add_state("pixels", torch.zeros(num_classes, num_classes, dtype=torch.long), "sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add pixels: ids of equal shape, int64; those whose target is negative do not count."""
        counted = target >= 0
        index = target[counted] * self.num_classes + prediction[counted]
        counts = torch.bincount(index, minlength=self.num_classes**2)
        self.pixels += counts.view(self.num_classes, self.num_classes)

    def compute(self) -> Tensor:
        """(num_classes, num_classes) int64."""
        return self.pixels.clone()


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
