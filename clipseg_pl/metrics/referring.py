"""Metrics of referring expressions as the field reports them, with and without a target."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipseg_pl.metrics.functional import THRESHOLDS, Histograms, counts_at_thresholds
from clipseg_pl.metrics.presence import PRESENCE_LEVELS, PresenceCounts
from clipseg_pl.metrics.threshold_counts import DoubleSums

PRECISION_AT = (0.5, 0.6, 0.7, 0.8, 0.9)
"""values of X in Pr@X, the share of expressions with an IoU of at least X"""


class ReferringTotals(NamedTuple):
    """Sums over expressions by presence level, (..., L + 1), and by threshold, (..., T).

    The first axis K of some sums is 0 for expressions without a target and 1 for the others.
    """

    expressions: Tensor
    """(K, L + 1) int64"""
    predicted: Tensor
    """(K, L + 1, T) int64, expressions whose mask is not empty"""
    false: Tensor
    """(K, L + 1, T) int64, predicted pixels outside the target"""
    hit: Tensor
    """(L + 1, T) int64, predicted pixels inside the target"""
    iou: Tensor
    """(L + 1, T) float64, IoUs of expressions with a target"""
    target: Tensor
    """() int64, pixels of all targets"""
    precise: Tensor
    """(X, T) int64, expressions with a target whose IoU is at least each of `PRECISION_AT`"""

    @property
    def having(self) -> int:
        """Number of expressions with a target."""
        return int(self.expressions[1].sum())

    @property
    def without(self) -> int:
        """Number of expressions without a target."""
        return int(self.expressions[0].sum())

    def presence(self) -> PresenceCounts | None:
        """Return histograms of presence scores; None if all or no expressions have a target."""
        absent, present = self.expressions
        return PresenceCounts(present, absent) if self.having and self.without else None

    def curves(self) -> dict[str, Tensor]:
        """Return oIoU, mIoU and Pr@X of the expressions with a target, (T,) float64 each.

        The absent cut does not change these metrics.
        """
        count = max(1, self.having)
        hit, false = self.hit.sum(0), self.false[1].sum(0)
        curves = {
            "oiou": hit.double() / (self.target + false).clamp(min=1),
            "miou": self.iou.sum(0) / count,
        }
        shares = zip(PRECISION_AT, self.precise.double() / count, strict=True)
        return curves | {f"pr{round(100 * least)}": share for least, share in shares}

    def generalised(self, cut: float = 0.0) -> dict[str, Tensor]:
        """Return gIoU, cIoU, N-acc and T-acc of all expressions, (T,) float64 each.

        An expression is called without target if its mask is empty at the threshold, or if its
        presence score is below the cut. As in GRES, an expression with a target that is called
        without target has no intersection, but its predicted pixels count in the union.

        Args:
            cut: absent cut, 0 to 1, rounded to the nearest presence level; 0 for none.
        """
        having, without, first = self.having, self.without, round(cut * PRESENCE_LEVELS)
        kept = self.predicted[:, first:].sum(1)  # (2, T)
        recognised, false = without - kept[0], self.false[0, first:].sum(0) + self.false[1].sum(0)
        return {
            "giou": (self.iou[first:].sum(0) + recognised) / max(1, having + without),
            "ciou": self.hit[first:].sum(0).double() / (self.target + false).clamp(min=1),
            "n_acc": recognised.double() / max(1, without),
            "t_acc": kept[1].double() / max(1, having),
        }


class ReferringCounts(DoubleSums):
    """Pixels, IoUs and empty masks of referring expressions, by threshold and presence score.

    IoU is tp / (tp + fp + fn), and 0 if the union is empty. No 1 is added to a denominator.

    The states are those of `ReferringTotals`. They keep the expressions of each presence score
    apart, since the absent cut is known only after the evaluation, and take 24 MB.

    Reference: LAVT (Yang et al., CVPR 2022) for oIoU, mIoU and Pr@X; GRES (Liu et al., CVPR 2023)
    for gIoU, cIoU, N-acc and T-acc.
    """

    expressions: Tensor
    predicted: Tensor
    false: Tensor
    hit: Tensor
    iou: Tensor
    target: Tensor
    precise: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        super().__init__(**kwargs)
        levels, thresholds = PRESENCE_LEVELS + 1, len(THRESHOLDS)

        def add(name: str, *shape: int, dtype: torch.dtype = torch.long) -> None:
            self.add_state(name, torch.zeros(shape, dtype=dtype), "sum")

        add("expressions", 2, levels)
        add("predicted", 2, levels, thresholds)
        add("false", 2, levels, thresholds)
        add("hit", levels, thresholds)
        add("iou", levels, thresholds, dtype=torch.double)
        add("target")
        add("precise", len(PRECISION_AT), thresholds)

    def update(self, pixels: Histograms, score: Tensor, without_target: Tensor) -> None:
        """Add expressions.

        Args:
            pixels: (P, T + 1) each.
            score: (P,) presence scores, 0 to 1.
            without_target: (P,) bool.
        """
        counts, level = counts_at_thresholds(pixels), (score * PRESENCE_LEVELS).long()
        predicted = (counts.tp + counts.fp > 0).long()
        for kind, rows in enumerate((without_target, ~without_target)):
            self.expressions[kind].index_add_(0, level[rows], torch.ones_like(level[rows]))
            self.predicted[kind].index_add_(0, level[rows], predicted[rows])
            self.false[kind].index_add_(0, level[rows], counts.fp[rows])
        tp, fp, fn = (count[~without_target] for count in (counts.tp, counts.fp, counts.fn))
        iou = tp.double() / (tp + fp + fn).clamp(min=1)
        self.hit.index_add_(0, level[~without_target], tp)
        self.iou.index_add_(0, level[~without_target], iou)
        self.target += pixels.positives[~without_target].sum()
        for index, least in enumerate(PRECISION_AT):
            self.precise[index] += (iou >= least).sum(0)

    def compute(self) -> ReferringTotals:
        """Return the sums over all ranks."""
        return ReferringTotals(*(getattr(self, name).clone() for name in ReferringTotals._fields))
