"""Masks of a class, asked for by a support image or by the class's name."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.protocols.base import Protocol, Reading
from clipseg_pl.protocols.overlap import Overlaps, Report, best
from clipseg_pl.sample import Batch


class OneShotProtocol(Protocol):
    """Pascal-5i and COCO-20i: mIoU over the classes of a fold, IoU_FG, IoU_BIN and AP.

    Where a benchmark scores at another size than the model's (Pascal-5i: a square of the photo's
    longer side), probabilities are resized to it, bilinear with aligned corners as PFENet does.

    Args:
        num_classes: of the dataset, 20 or 80; classes that no prompt asks for do not count.
        readings: "visual" is one-shot segmentation, "text" the zero-shot one of Table 7.

    Reference: paper sections 5.2 and 5.3, Tables 5, 6 and 7.
    """

    def __init__(self, num_classes: int, readings: Sequence[Reading] = ("visual", "text")) -> None:
        """Create the metrics of each reading."""
        super().__init__(readings)
        self.num_classes = num_classes
        self.metrics = Overlaps(self.readings, num_classes)

    def update(self, reading: Reading, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure the (K, 1, H, W) logits of the K selected of P prompts.

        Raises:
            ValueError: for class ids that the protocol does not have.
        """
        if not ((0 <= batch["class_id"]) & (batch["class_id"] < self.num_classes)).all():
            raise ValueError(
                f"OneShotProtocol has {self.num_classes} classes, and the data ask for others: lay "
                "an overlay of experiments/benchmarks behind all that set data"
            )
        probability, sizes = logits.float().sigmoid(), batch["target_size"][selected]
        target, valid = batch["query_mask"][selected], batch["valid_mask"][selected]
        for height, width in sorted({(height, width) for height, width in sizes.tolist()}):
            same = (sizes == sizes.new_tensor((height, width))).all(1)
            self.metrics[reading].update(
                _resize(probability[same], height, width),
                target[same, :, :height, :width],
                valid[same, :, :height, :width],
                batch["class_id"][selected][same],
            )

    def compute(
        self, kept_threshold: float | None, kept_cut: float | None = None
    ) -> dict[str, float]:
        """Return every number, named `<reading>/<metric>`."""
        return self.metrics.compute(kept_threshold)

    def report(self, kept_threshold: float | None) -> Report:
        """Curves, and IoU by class and by size of the target, for each reading."""
        return self.metrics.report(kept_threshold, self.classes.names)

    def reset(self) -> None:
        """Forget what was measured."""
        self.metrics.reset()

    def best_threshold(self) -> float:
        """The threshold of the best mIoU, by the first reading."""
        return best(self.metrics[self.readings[0]].miou())


def _resize(probability: Tensor, height: int, width: int) -> Tensor:
    if probability.shape[2:] == (height, width):
        return probability
    size = (height, width)
    resized = F.interpolate(probability, size, mode="bilinear", align_corners=True)
    return resized.clamp(0, 1)  # sums of weights may exceed 1 by a rounding
