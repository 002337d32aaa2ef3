"""Metrics of pixel histograms, as torchmetrics classes.

Their states have a constant size and are summed across ranks. Most metrics accept the result of
`functional.histograms`, so a protocol (the evaluation of one benchmark) counts pixels only once for
all of them. They differ in the pixels that are summed before a ratio is computed: those of the
dataset, of a class or of a prompt.
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
    dice,
    iou_foreground,
    score_levels,
)

_BINS = len(THRESHOLDS) + 1


class DoubleSums(Metric):
    """Metric whose float64 states stay float64 when the module that contains it is cast.

    With `--trainer.precision 16-true` or `bf16-true`, Lightning casts the whole module by
    `.to(dtype)`. Torchmetrics protects states from `.half()`, but not from `.to(dtype)`.
    """

    def _apply(
        self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ""
    ) -> torch.nn.Module:
        def move(state: Tensor) -> Tensor:
            moved = fn(state)
            return moved if moved.dtype == state.dtype else state.to(moved.device)

        return super()._apply(move, exclude_state)


class DatasetCounts(Metric):
    """Pixel counts of the whole dataset, for IoU_FG, IoU_BIN and the paper's AP."""

    positives: Tensor
    negatives: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        super().__init__(**kwargs)
        self.add_state("positives", torch.zeros(_BINS, dtype=torch.long), "sum")
        self.add_state("negatives", torch.zeros(_BINS, dtype=torch.long), "sum")

    def update(self, pixels: Histograms) -> None:
        """Add the histograms of P prompts, (P, T + 1) each."""
        self.positives += pixels.positives.sum(0)
        self.negatives += pixels.negatives.sum(0)

    def compute(self) -> Counts:
        """Return the outcomes at each threshold, (T,) int64 each."""
        return counts_at_thresholds(Histograms(self.positives, self.negatives))


class PromptMeans(NamedTuple):
    """Means over prompts of their IoU or Dice."""

    mean: Tensor
    """(T,) float64, over all prompts"""
    prompts: int
    """number of prompts"""
    group_mean: Tensor
    """(G, T) float64, over the prompts of each group"""
    group_prompts: Tensor
    """(G,) int64, number of prompts in each group"""


class MeanIoUPerPrompt(DoubleSums):
    """Mean over prompts of their IoU_FG, called mIoU in the paper's PhraseCut tables.

    Args:
        num_groups: number of groups of prompts; a mean is computed for each group.
    """

    total: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self, num_groups: int = 1, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics
        super().__init__(**kwargs)
        zeros = torch.zeros(num_groups, len(THRESHOLDS), dtype=torch.double)
        self.add_state("total", zeros, "sum")
        self.add_state("count", torch.zeros(num_groups, dtype=torch.long), "sum")

    def update(self, pixels: Histograms, group: Tensor | None = None) -> None:
        """Add the histograms of P prompts.

        Args:
            pixels: (P, T + 1) each.
            group: (P,) int64 group of each prompt in [0, num_groups); 0 by default.
        """
        overlap = self.overlap(counts_at_thresholds(pixels))
        group = overlap.new_zeros(len(overlap), dtype=torch.long) if group is None else group
        self.total.index_add_(0, group, overlap)
        self.count += torch.bincount(group, minlength=len(self.count))

    @staticmethod
    def overlap(counts: Counts) -> Tensor:
        """Return the IoU_FG of each prompt, (P, T) float64."""
        return iou_foreground(counts)

    def compute(self) -> PromptMeans:
        """Return the means; zeros for groups without prompts."""
        prompts = self.count.sum()
        return PromptMeans(
            mean=self.total.sum(0) / prompts.clamp(min=1),
            prompts=int(prompts),
            group_mean=self.total / self.count.clamp(min=1)[:, None],
            group_prompts=self.count.clone(),
        )


class MeanDicePerPrompt(MeanIoUPerPrompt):
    """Mean over prompts of their Dice, see `MeanIoUPerPrompt`."""

    @staticmethod
    def overlap(counts: Counts) -> Tensor:
        """Return the Dice of each prompt, (P, T) float64."""
        return dice(counts)


class MeanIoUPerClass(Metric):
    """IoU of each class, computed from the summed pixels of its prompts.

    The caller averages the IoUs over the classes that have pixels.

    Args:
        num_classes: number of classes; class ids are in [0, num_classes).
    """

    positives: Tensor
    negatives: Tensor
    full_state_update = False

    def __init__(self, num_classes: int, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics
        super().__init__(**kwargs)
        zeros = torch.zeros(num_classes, _BINS, dtype=torch.long)
        self.add_state("positives", zeros.clone(), "sum")
        self.add_state("negatives", zeros.clone(), "sum")

    def update(self, pixels: Histograms, class_id: Tensor) -> None:
        """Add the histograms of P prompts, (P, T + 1) each, with their class ids, (P,) int64."""
        self.positives.index_add_(0, class_id, pixels.positives)
        self.negatives.index_add_(0, class_id, pixels.negatives)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the IoU of each class and whether the class has pixels.

        Returns:
            (num_classes, T) float64 and (num_classes,) bool.
        """
        present = (self.positives + self.negatives).sum(1) > 0
        counts = counts_at_thresholds(Histograms(self.positives, self.negatives))
        return iou_foreground(counts), present


class AveragePrecision(Metric):
    """The usual average precision over all pixels of the dataset, in constant memory.

    Scores are quantised to 65,536 levels, uniform in the logit from -16 to 16.
    """

    positives: Tensor
    negatives: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        super().__init__(**kwargs)
        self.add_state("positives", torch.zeros(SCORE_LEVELS, dtype=torch.long), "sum")
        self.add_state("negatives", torch.zeros(SCORE_LEVELS, dtype=torch.long), "sum")

    def update(self, probability: Tensor, target: Tensor, valid: Tensor) -> None:
        """Add pixels.

        Args:
            probability: (...) float32, 0 to 1.
            target: (...) bool.
            valid: (...) bool, pixels to count.
        """
        levels = score_levels(probability)
        self.positives += torch.bincount(levels[valid & target], minlength=SCORE_LEVELS)
        self.negatives += torch.bincount(levels[valid & ~target], minlength=SCORE_LEVELS)

    def compute(self) -> float:
        """Return the AP, 0 to 1."""
        return average_precision(self.positives, self.negatives)


class FalsePositives(DoubleSums):
    """False-positive rate and area for phrases that are absent from the image."""

    alarms: Tensor
    area: Tensor
    count: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        super().__init__(**kwargs)
        self.add_state("alarms", torch.zeros(len(THRESHOLDS), dtype=torch.long), "sum")
        self.add_state("area", torch.zeros(len(THRESHOLDS), dtype=torch.double), "sum")
        self.add_state("count", torch.zeros((), dtype=torch.long), "sum")

    def update(self, pixels: Histograms) -> None:
        """Add the histograms of P absent prompts, (P, T + 1) each."""
        counts = counts_at_thresholds(pixels)
        self.alarms += (counts.fp > 0).sum(0)
        self.area += (counts.fp.double() / (counts.fp + counts.tn).clamp(min=1)).sum(0)
        self.count += len(pixels.negatives)

    def compute(self) -> tuple[Tensor, Tensor, int]:
        """Return the rate and area of false positives and the number of prompts.

        Returns:
            (T,) share of prompts with at least one positive pixel, (T,) mean share of the pixels
            that are positive, and the number of prompts. The shares are zero without prompts.
        """
        count = self.count.clamp(min=1)
        return self.alarms.double() / count, self.area / count, int(self.count)
