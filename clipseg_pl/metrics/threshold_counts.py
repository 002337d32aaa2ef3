"""Torchmetrics over pixel histograms: constant-size states on the device, sums across ranks.

All take what `functional.histograms` returns, so that a protocol counts pixels once and feeds
every metric; the names say what is summed before the ratio is taken.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from clipseg_pl.metrics.functional import (
    SCORE_LEVELS,
    THRESHOLDS,
    Counts,
    Histograms,
    average_precision,
    counts_at_thresholds,
    iou_foreground,
    score_levels,
)

_BINS = len(THRESHOLDS) + 1


class DoubleSums(Metric):
    """A metric whose float64 sums stay float64 when the model around it is cast to float16.

    Lightning casts the whole module for `--trainer.precision 16-true` or `bf16-true`; torchmetrics
    blocks `.half()` but not `.to(dtype)`.
    """

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        def move(state: Tensor) -> Tensor:
            moved = fn(state)
            return moved if moved.dtype == state.dtype else state.to(moved.device)

        return super()._apply(move, exclude_state)


class DatasetCounts(Metric):
    """Pixels of the whole set, for IoU_FG, IoU_BIN and the paper's AP."""

    positives: Tensor
    negatives: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        """Create the states."""
        super().__init__(**kwargs)
        self.add_state("positives", torch.zeros(_BINS, dtype=torch.long), "sum")
        self.add_state("negatives", torch.zeros(_BINS, dtype=torch.long), "sum")

    def update(self, given: Histograms) -> None:
        """Add prompts, (P, T + 1) each."""
        self.positives += given.positives.sum(0)
        self.negatives += given.negatives.sum(0)

    def compute(self) -> Counts:
        """Outcomes at each threshold, (T,) int64 each."""
        return counts_at_thresholds(Histograms(self.positives, self.negatives))


class PromptIoU(NamedTuple):
    """Means over prompts of their IoU."""

    mean: Tensor
    """(T,) float64"""
    prompts: int
    """number of prompts"""
    of_groups: Tensor
    """(G, T) float64, the same within each group"""
    group_prompts: Tensor
    """(G,) int64, number of prompts in each group"""


class MeanIoUPerPrompt(DoubleSums):
    """Mean over prompts of their own IoU, what the paper calls mIoU on PhraseCut.

    Args:
        num_groups: of prompts that are also looked at by themselves.
    """

    iou_sum: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self, num_groups: int = 1, **kwargs: Any) -> None:  # noqa: ANN401 - the same
        """Create the states."""
        super().__init__(**kwargs)
        zeros = torch.zeros(num_groups, len(THRESHOLDS), dtype=torch.double)
        self.add_state("iou_sum", zeros, "sum")
        self.add_state("count", torch.zeros(num_groups, dtype=torch.long), "sum")

    def update(self, given: Histograms, group: Tensor | None = None) -> None:
        """Add prompts, (P, T + 1) each, of groups (P,) in [0, num_groups); all 0 by default."""
        iou = iou_foreground(counts_at_thresholds(given))
        group = iou.new_zeros(len(iou), dtype=torch.long) if group is None else group
        self.iou_sum.index_add_(0, group, iou)
        self.count += torch.bincount(group, minlength=len(self.count))

    def compute(self) -> PromptIoU:
        """Zeros where no prompt was seen."""
        prompts, every = self.count, self.count.sum()
        return PromptIoU(
            mean=self.iou_sum.sum(0) / every.clamp(min=1),
            prompts=int(every),
            of_groups=self.iou_sum / prompts.clamp(min=1)[:, None],
            group_prompts=prompts.clone(),
        )


class MeanIoUPerClass(Metric):
    """Pixels summed by class, then IoU, then the mean over classes that were seen.

    Args:
        num_classes: class ids lie in [0, num_classes).
    """

    positives: Tensor
    negatives: Tensor
    full_state_update = False

    def __init__(self, num_classes: int, **kwargs: Any) -> None:  # noqa: ANN401 - the same
        """Create the states."""
        super().__init__(**kwargs)
        zeros = torch.zeros(num_classes, _BINS, dtype=torch.long)
        self.add_state("positives", zeros.clone(), "sum")
        self.add_state("negatives", zeros.clone(), "sum")

    def update(self, given: Histograms, class_id: Tensor) -> None:
        """Add prompts, (P, T + 1) each, with their classes (P,)."""
        self.positives.index_add_(0, class_id, given.positives)
        self.negatives.index_add_(0, class_id, given.negatives)

    def compute(self) -> tuple[Tensor, Tensor]:
        """IoU of each class, (num_classes, T) float64, and which were seen, (num_classes,) bool."""
        seen = (self.positives + self.negatives).sum(1) > 0
        counts = counts_at_thresholds(Histograms(self.positives, self.negatives))
        return iou_foreground(counts), seen


class AveragePrecision(Metric):
    """The usual pixel-level AP over the whole set, in constant memory.

    Scores are told apart at 65,536 levels, equally wide in the logit from -16 to 16.
    """

    positives: Tensor
    negatives: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        """Create the states."""
        super().__init__(**kwargs)
        self.add_state("positives", torch.zeros(SCORE_LEVELS, dtype=torch.long), "sum")
        self.add_state("negatives", torch.zeros(SCORE_LEVELS, dtype=torch.long), "sum")

    def update(self, probability: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add pixels: probability float32 in [0, 1], target and valid bool, of one shape."""
        levels = score_levels(probability)
        self.positives += torch.bincount(levels[valid & target], minlength=SCORE_LEVELS)
        self.negatives += torch.bincount(levels[valid & ~target], minlength=SCORE_LEVELS)

    def compute(self) -> float:
        """AP, 0 to 1."""
        return average_precision(self.positives, self.negatives)


class FalsePositives(DoubleSums):
    """How often, and how much, is marked for phrases that are absent from the image."""

    alarms: Tensor
    area: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        """Create the states."""
        super().__init__(**kwargs)
        self.add_state("alarms", torch.zeros(len(THRESHOLDS), dtype=torch.long), "sum")
        self.add_state("area", torch.zeros(len(THRESHOLDS), dtype=torch.double), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), "sum")

    def update(self, given: Histograms) -> None:
        """Add absent prompts, (P, T + 1) each."""
        counts = counts_at_thresholds(given)
        self.alarms += (counts.fp > 0).sum(0)
        self.area += (counts.fp.double() / (counts.fp + counts.tn).clamp(min=1)).sum(0)
        self.count += len(given.negatives)

    def compute(self) -> tuple[Tensor, Tensor, int]:
        """Share of prompts with any pixel marked, mean share of pixels marked, and their number.

        The shares are (T,) each, and zeros where there was no prompt.
        """
        count = self.count.clamp(min=1)
        return self.alarms.double() / count, self.area / count, int(self.count)
