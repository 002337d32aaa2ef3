"""Generalised zero-shot segmentation: classify pixels into seen and unseen classes."""

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from clipseg_pl.metrics.confusion import class_iou, generalised_iou
from clipseg_pl.protocols.base import Protocol
from clipseg_pl.protocols.overlap import Report
from clipseg_pl.sample import Batch

_NOT_VALID = -1


class ZeroShotProtocol(Protocol):
    """Evaluate generalised zero-shot segmentation on Pascal VOC.

    Every image has one prompt per class, "background" first. Each pixel is assigned to the class
    with the highest probability, after the probability of "background" is multiplied by a factor.
    `miou_seen` is the mean IoU of the seen classes, including the background, and `miou_unseen` is
    the mean IoU of the unseen classes. The authors' evaluation probably swaps the two. See
    docs/deviations.md (seen-unseen).

    Args:
        background_factor: factor of the background's probability, 3 in the authors' code. See
            docs/deviations.md (background-factor).
        num_classes: number of classes including the background.

    Reference: paper, section 5.2 and Table 4.
    """

    def __init__(self, background_factor: float = 3.0, num_classes: int = 21) -> None:
        super().__init__(["text"])
        self.background_factor, self.num_classes = background_factor, num_classes
        self.confusion = MulticlassConfusionMatrix(
            num_classes, ignore_index=_NOT_VALID, validate_args=False
        )

    def update(self, prompt_type: str, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Update the confusion matrix with the (P, 1, H, W) logits of B images.

        Raises:
            ValueError: if an image does not have one prompt per class, in the order of class ids.
        """
        images, class_id = len(batch["query_image"]), batch["class_id"]
        expected = torch.arange(self.num_classes, device=class_id.device).repeat(images)
        if not torch.equal(class_id, expected):
            raise ValueError(
                "ZeroShotProtocol needs one prompt per class and image, in the order of class ids"
            )
        shape = (images, self.num_classes, *logits.shape[2:])
        probability = logits.float().sigmoid().view(shape)  # P 1 H W -> B classes H W
        probability[:, 0] *= self.background_factor
        masks = batch["query_mask"].view(shape)
        valid = batch["valid_mask"].view(shape)[:, 0]
        target = masks.int().argmax(1).masked_fill(~valid, _NOT_VALID)
        self.confusion.update(probability.argmax(1), target)

    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `text/<metric>`. They do not depend on a threshold."""
        iou = generalised_iou(self.confusion.compute(), self.classes.unseen)
        return {
            "text/miou_seen": iou.seen,
            "text/miou_unseen": iou.unseen,
            "text/miou_harmonic": iou.harmonic,
            "text/miou": iou.overall,
        }

    def report(self, stored_threshold: float | None) -> Report:
        """Return the IoU by class."""
        iou = class_iou(self.confusion.compute()).tolist()
        return {"text: iou by class": dict(zip(self.classes.names, iou, strict=True))}

    def reset(self) -> None:
        """Reset all metrics."""
        self.confusion.reset()

    @property
    def monitor(self) -> str:
        """Name of the metric that selects `best.ckpt`.

        It excludes the unseen classes, so that they do not influence the choice of the checkpoint.
        """
        return "text/miou_seen"

    def best_threshold(self) -> None:
        """Return None, since pixels are classified without a threshold."""
