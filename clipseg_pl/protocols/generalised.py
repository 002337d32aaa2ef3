"""What things are for, can do and have: prompts that name no object."""

from torch import Tensor

from clipseg_pl.protocols.base import Protocol
from clipseg_pl.protocols.overlap import Overlaps, Report, best
from clipseg_pl.sample import Batch

GROUPS: dict[str, tuple[str, ...]] = {
    "affordances": ("sit on", "drink from", "ride on"),
    "attributes": ("can fly", "can be driven", "can swim"),
    "parts": ("has wheels", "has legs"),
}
"""the prompts of each column of Table 8"""


class GeneralisedProtocol(Protocol):
    """Affordances, attributes and parts, each group with its pixels pooled.

    The column that Table 8 prints as mIoU is `iou_fg@best` of a group.

    Reference: paper section 5.4, Table 8.
    """

    def __init__(self) -> None:
        """Create the metrics of each group."""
        super().__init__(["text"])
        self.metrics = Overlaps([f"text/{group}" for group in GROUPS])

    def update(self, reading: str, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure (P, 1, H, W) logits; prompts of no group do not count."""
        probability = logits.float().sigmoid()
        for group, prompts in GROUPS.items():
            rows = [row for row, phrase in enumerate(batch["phrase"]) if phrase in prompts]
            if rows:
                self.metrics[f"text/{group}"].update(
                    probability[rows],
                    batch["query_mask"][rows],
                    batch["valid_mask"][rows],
                    batch["class_id"][rows],
                )

    def compute(
        self, kept_threshold: float | None, kept_cut: float | None = None
    ) -> dict[str, float]:
        """Return every number, named `text/<group>/<metric>`."""
        return self.metrics.compute(kept_threshold)

    def report(self, kept_threshold: float | None) -> Report:
        """Curves, and IoU by size of the target, for each group."""
        return self.metrics.report(kept_threshold, self.classes.names)

    def reset(self) -> None:
        """Forget what was measured."""
        self.metrics.reset()

    @property
    def monitor(self) -> str:
        """`best.ckpt` follows the mIoU of the affordances."""
        return "text/affordances/miou@best"

    def best_threshold(self) -> float:
        """The threshold of the best mean IoU of the affordances."""
        return best(self.metrics["text/affordances"].miou())
