"""Metrics from a confusion matrix with true classes in rows and predicted ones in columns."""

from collections.abc import Collection
from typing import NamedTuple

from torch import Tensor


def class_iou(pixels: Tensor) -> Tensor:
    """Return (num_classes,) float64 IoUs; 0 for a class neither present nor predicted."""
    hit = pixels.diagonal().double()
    union = pixels.sum(0) + pixels.sum(1) - hit
    return hit / union.clamp(min=1)


def semantic_metrics(pixels: Tensor) -> dict[str, float]:
    """Return the metrics of semantic segmentation, 0 to 1 each; 0 if no pixel is counted.

    Args:
        pixels: (num_classes, num_classes) confusion matrix in pixels.

    Returns:
        `miou`: mean IoU of the classes that occur in the labels or the predictions. `fwiou`: mean
        IoU weighted by the number of labelled pixels of a class. `pixel_accuracy`: share of the
        pixels that are classified correctly. `mean_accuracy`: mean over the labelled classes of
        the share of their pixels that are classified correctly.
    """
    iou, hit, labelled = class_iou(pixels), pixels.diagonal().double(), pixels.sum(1)
    occurs = (pixels.sum(0) + labelled) > 0
    total, accuracy = labelled.sum().clamp(min=1), hit / labelled.clamp(min=1)
    return {
        "miou": float(iou.sum() / occurs.sum().clamp(min=1)),
        "fwiou": float((iou * labelled).sum() / total),
        "pixel_accuracy": float(hit.sum() / total),
        "mean_accuracy": float(accuracy.sum() / (labelled > 0).sum().clamp(min=1)),
    }


class GeneralisedIoU(NamedTuple):
    """Mean IoU of seen, unseen and all classes, 0 to 1."""

    seen: float
    unseen: float
    harmonic: float
    """harmonic mean of seen and unseen, 2 * seen * unseen / (seen + unseen)"""
    overall: float
    """mean over all classes"""


def generalised_iou(pixels: Tensor, unseen: Collection[int]) -> GeneralisedIoU:
    """Return mean IoUs of seen and unseen classes, as in JoEm (Baek et al., ICCV 2021).

    The background counts as a seen class.

    Args:
        pixels: (num_classes, num_classes) confusion matrix in pixels.
        unseen: ids of the unseen classes, at least one and not all.
    """
    iou = class_iou(pixels)
    seen = [class_id for class_id in range(len(iou)) if class_id not in unseen]
    seen_iou, unseen_iou = float(iou[seen].mean()), float(iou[list(unseen)].mean())
    total = seen_iou + unseen_iou
    harmonic = 2 * seen_iou * unseen_iou / total if total else 0.0
    return GeneralisedIoU(seen_iou, unseen_iou, harmonic, float(iou.mean()))
