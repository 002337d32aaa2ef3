"""Every pixel to one of the classes, some of which training left out."""

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from clipseg_pl.metrics.confusion import class_iou, generalised_iou
from clipseg_pl.protocols.base import Protocol
from clipseg_pl.protocols.overlap import Report
from clipseg_pl.sample import Batch

_NOT_VALID = -1


class ZeroShotProtocol(Protocol):
    """Generalised zero-shot segmentation of Pascal VOC.

    Every image comes with one prompt a class, "background" first. Each pixel goes to the class of
    the largest probability, the background's multiplied by a factor. `miou_seen` is the mean IoU
    of classes that training may have seen, among them the background; `miou_unseen` that of the
    others. The authors' evaluation hands the two lists over in the wrong order, so that
    what they print as "seen" is probably `miou_unseen`, and the other way round.

    Args:
        background_factor: on the background's probability; the authors' 3.
        num_classes: with the background.

    Reference: paper section 5.2, Table 4.
    """

    def __init__(self, background_factor: float = 3.0, num_classes: int = 21) -> None:
        """Create the metric."""
        super().__init__(["text"])
        self.background_factor, self.num_classes = background_factor, num_classes
        self.confusion = MulticlassConfusionMatrix(
            num_classes, ignore_index=_NOT_VALID, validate_args=False
        )

    def update(self, reading: str, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure the (P, 1, H, W) logits of B images with a prompt for each class in turn.

        Raises:
            ValueError: if the prompts are others.
        """
        images, class_id = len(batch["query_image"]), batch["class_id"]
        asked = torch.arange(self.num_classes, device=class_id.device).repeat(images)
        if not torch.equal(class_id, asked):
            raise ValueError("ZeroShotProtocol needs one prompt a class, in the classes' order")
        shape = (images, self.num_classes, *logits.shape[2:])
        probability = logits.float().sigmoid().view(shape)  # P 1 H W -> B classes H W
        probability[:, 0] *= self.background_factor
        masks = batch["query_mask"].view(shape)
        valid = batch["valid_mask"].view(shape)[:, 0]
        target = masks.int().argmax(1).masked_fill(~valid, _NOT_VALID)
        self.confusion.update(probability.argmax(1), target)

    def compute(
        self, kept_threshold: float | None, kept_cut: float | None = None
    ) -> dict[str, float]:
        """Return every number, named `text/<metric>`; no threshold is involved."""
        found = generalised_iou(self.confusion.compute(), self.classes.unseen)
        return {
            "text/miou_seen": found.seen,
            "text/miou_unseen": found.unseen,
            "text/miou_harmonic": found.harmonic,
            "text/miou": found.overall,
        }

    def report(self, kept_threshold: float | None) -> Report:
        """IoU by class."""
        iou = class_iou(self.confusion.compute()).tolist()
        return {"text: iou by class": dict(zip(self.classes.names, iou, strict=True))}

    def reset(self) -> None:
        """Forget what was measured."""
        self.confusion.reset()

    @property
    def monitor(self) -> str:
        """`best.ckpt` follows the seen classes; selecting on unseen ones would leak them."""
        return "text/miou_seen"

    def best_threshold(self) -> None:
        """There is none: every pixel goes to one class."""
