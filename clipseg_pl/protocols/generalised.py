"""Generalised prompts: affordances, attributes and parts instead of object names."""

from torch import Tensor

from clipseg_pl.protocols.base import Protocol
from clipseg_pl.protocols.overlap import Overlaps, Report, threshold_to_store
from clipseg_pl.sample import Batch

GROUPS: dict[str, tuple[str, ...]] = {
    "affordances": ("sit on", "drink from", "ride on"),
    "attributes": ("can fly", "can be driven", "can swim"),
    "parts": ("has wheels", "has legs"),
}
"""prompts of each column of Table 8"""


class GeneralisedProtocol(Protocol):
    """Evaluate prompts for affordances, attributes and parts, each group on its own.

    The column mIoU of Table 8 is `iou_fg@best` of a group. See docs/deviations.md (table-rows).

    Reference: paper, section 5.4 and Table 8.
    """

    def __init__(self) -> None:
        super().__init__(["text"])
        self.metrics = Overlaps([f"text/{group}" for group in GROUPS])

    def update(self, prompt_type: str, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Update the metrics with (P, 1, H, W) logits; prompts outside all groups are ignored."""
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
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `text/<group>/<metric>`."""
        return self.metrics.compute(stored_threshold)

    def report(self, stored_threshold: float | None) -> Report:
        """Return curves over thresholds and IoU by size of the target, for each group."""
        return self.metrics.report(stored_threshold, self.classes.names)

    def reset(self) -> None:
        """Reset all metrics."""
        self.metrics.reset()

    @property
    def monitor(self) -> str:
        """Name of the metric that selects `best.ckpt`, the mIoU of the affordances."""
        return "text/affordances/miou@best"

    def best_threshold(self) -> float | None:
        """Return the threshold with the best mIoU of the affordances."""
        return threshold_to_store(self.metrics["text/affordances"].miou())
