"""Metrics of presence scores, and calibration of the absent cut.

The absent cut is the presence score below which a prompt is considered absent from the image.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

PRESENCE_LEVELS = 10_000
"""resolution of scores and cuts"""


class PresenceCounts(NamedTuple):
    """Number of prompts by presence score, (L + 1,) int64 each.

    Entry k counts scores from k / L to below (k + 1) / L, with L = 10,000.
    """

    present: Tensor
    absent: Tensor


class Presence(Metric):
    """Histograms of the presence scores of present and absent prompts."""

    present: Tensor
    absent: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        super().__init__(**kwargs)
        self.add_state("present", torch.zeros(PRESENCE_LEVELS + 1, dtype=torch.long), "sum")
        self.add_state("absent", torch.zeros(PRESENCE_LEVELS + 1, dtype=torch.long), "sum")

    def update(self, score: Tensor, absent: Tensor) -> None:
        """Add prompts.

        Args:
            score: (P,) presence scores, 0 to 1.
            absent: (P,) bool, true if the prompt is absent from its image.
        """
        levels = (score * PRESENCE_LEVELS).long()
        self.present += torch.bincount(levels[~absent], minlength=PRESENCE_LEVELS + 1)
        self.absent += torch.bincount(levels[absent], minlength=PRESENCE_LEVELS + 1)

    def compute(self) -> PresenceCounts | None:
        """Return the histograms; None if there was no present or no absent prompt."""
        if not (self.present.any() and self.absent.any()):
            return None
        return PresenceCounts(self.present.clone(), self.absent.clone())


def presence_auc(counts: PresenceCounts) -> float:
    """Return the area under the ROC curve of the presence scores.

    This is the probability that a present prompt has a higher score than an absent one. It equals
    scikit-learn's `roc_auc_score` on the quantised scores.
    """
    present, absent = counts
    below = absent.cumsum(0) - absent
    # twice the number of pairs in which the present prompt has the higher score; ties count as half
    ordered = (present * (2 * below + absent)).sum()
    return int(ordered) / int(2 * present.sum() * absent.sum())


def balanced_accuracy(counts: PresenceCounts, cut: float) -> float:
    """Return the mean of the accuracies on present and on absent prompts.

    A present prompt is classified correctly if its score is at least the cut, an absent prompt if
    its score is below the cut.

    Args:
        counts: histograms with present and absent prompts.
        cut: absent cut, 0 to 1, rounded to the nearest level.
    """
    correct = _correct(counts)[round(cut * PRESENCE_LEVELS)]
    return int(correct) / int(2 * counts.present.sum() * counts.absent.sum())


def best_cut(counts: PresenceCounts) -> float:
    """Return the lowest cut with the best balanced accuracy.

    Of equally good cuts, the lowest considers the fewest prompts absent. If the scores are
    uninformative, the cut is 0 and no prompt is considered absent.
    """
    return int(_correct(counts).argmax()) / PRESENCE_LEVELS  # argmax returns the first maximum


def presence_metrics(counts: PresenceCounts | None, stored_cut: float | None) -> dict[str, float]:
    """Return the metrics of presence scores by name; empty without counts.

    Args:
        counts: histograms with present and absent prompts.
        stored_cut: absent cut stored in the checkpoint.
    """
    if counts is None:
        return {}
    cuts = {"best": best_cut(counts)} | ({} if stored_cut is None else {"stored": stored_cut})
    accuracy = {
        f"presence_accuracy@{label}": balanced_accuracy(counts, cut) for label, cut in cuts.items()
    }
    return {"presence_auc": presence_auc(counts), **accuracy, "absent_cut@best": cuts["best"]}


def _correct(counts: PresenceCounts) -> Tensor:
    """Return the balanced accuracy at each cut as exact integers, (L + 1,) int64.

    The integers are the accuracy times 2 * (present prompts) * (absent prompts).
    """
    present, absent = counts
    present_above = present.flip(0).cumsum(0).flip(0)
    absent_below = absent.cumsum(0) - absent
    return present_above * absent.sum() + absent_below * present.sum()
