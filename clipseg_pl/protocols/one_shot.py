"""One-shot segmentation of a class, by a support image or by the name of the class."""

from collections.abc import Sequence

from torch import Tensor

from clipseg_pl.protocols.base import PromptType, Protocol
from clipseg_pl.protocols.overlap import Overlaps, Report, at_target_size, threshold_to_store
from clipseg_pl.sample import Batch


class OneShotProtocol(Protocol):
    """Evaluate Pascal-5i and COCO-20i: mIoU over the classes of a fold, IoU_FG, IoU_BIN and AP.

    A fold is one quarter of the classes, which is held out from training.

    The size of the target masks may differ from the size of the model's output. On Pascal-5i, for
    example, masks are squares whose side is the longer side of the photo. Probabilities are resized
    to the size of the mask as in PFENet, bilinear with aligned corners.

    Args:
        num_classes: number of classes of the dataset, 20 or 80. Classes without prompts are
            excluded from mIoU.
        prompt_types: "visual" is one-shot segmentation, "text" is the zero-shot setting of Table 7.

    Reference: paper, sections 5.2 and 5.3, Tables 5, 6 and 7.
    """

    def __init__(
        self, num_classes: int, prompt_types: Sequence[PromptType] = ("visual", "text")
    ) -> None:
        super().__init__(prompt_types)
        self.num_classes = num_classes
        self.metrics = Overlaps(self.prompt_types, num_classes)

    def update(
        self, prompt_type: PromptType, logits: Tensor, batch: Batch, selected: Tensor
    ) -> None:
        """Update the metrics with the (K, 1, H, W) logits of the K selected prompts.

        Raises:
            ValueError: if a class id is not in [0, num_classes).
        """
        if not ((0 <= batch["class_id"]) & (batch["class_id"] < self.num_classes)).all():
            raise ValueError(
                f"OneShotProtocol has {self.num_classes} classes, but the data has other ids; "
                "the config of experiments/benchmarks must come after all configs that set the data"
            )
        probability, classes = logits.float().sigmoid(), batch["class_id"][selected]
        for same in at_target_size(probability, batch, selected, align_corners=True):
            self.metrics[prompt_type].update(
                same.probability, same.target, same.valid, classes[same.rows]
            )

    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `<prompt_type>/<metric>`."""
        return self.metrics.compute(stored_threshold)

    def report(self, stored_threshold: float | None) -> Report:
        """Return curves and IoU by class and by size of the target, for each prompt type."""
        return self.metrics.report(stored_threshold, self.classes.names)

    def reset(self) -> None:
        """Reset all metrics."""
        self.metrics.reset()

    def best_threshold(self) -> float | None:
        """Return the threshold with the best mIoU of the first prompt type."""
        return threshold_to_store(self.metrics[self.prompt_types[0]].miou())
