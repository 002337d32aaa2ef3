"""Is the thing there at all: a score for each prompt, and the cut below which it is absent."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

_LEVELS = 10_000  # of a score; a cut is one of them


class PresenceCounts(NamedTuple):
    """Prompts by score, (L + 1,) int64 each: at place k those from k / L to below (k + 1) / L."""

    present: Tensor
    absent: Tensor


class Presence(Metric):
    """Scores of prompts that name what is in their image, and of those that do not."""

    present: Tensor
    absent: Tensor
    full_state_update = False

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 - torchmetrics' own options
        """Create the states."""
        super().__init__(**kwargs)
        self.add_state("present", torch.zeros(_LEVELS + 1, dtype=torch.long), "sum")
        self.add_state("absent", torch.zeros(_LEVELS + 1, dtype=torch.long), "sum")

    def update(self, score: Tensor, absent: Tensor) -> None:
        """Add prompts: score (P,), 0 to 1, and whether they are absent, (P,) bool."""
        levels = (score * _LEVELS).long()
        self.present += torch.bincount(levels[~absent], minlength=_LEVELS + 1)
        self.absent += torch.bincount(levels[absent], minlength=_LEVELS + 1)

    def compute(self) -> PresenceCounts | None:
        """The counts; None where there was no prompt of one of the two kinds."""
        if not (self.present.any() and self.absent.any()):
            return None
        return PresenceCounts(self.present.clone(), self.absent.clone())


def presence_auc(counts: PresenceCounts) -> float:
    """Area under the ROC curve: how often a present prompt scores above an absent one.

    Returns:
        Equal to scikit-learn's `roc_auc_score` on the scores so binned.
    """
    present, absent = counts
    below = absent.cumsum(0) - absent
    won = (present * (2 * below + absent)).sum()  # a draw is half a win
    return int(won) / int(2 * present.sum() * absent.sum())


def balanced_accuracy(counts: PresenceCounts, cut: float) -> float:
    """Mean of two shares: present prompts that reach the cut, absent ones that do not.

    Args:
        counts: of both kinds.
        cut: 0 to 1; the nearest level is meant.
    """
    right = _right(counts)[round(cut * _LEVELS)]
    return int(right) / int(2 * counts.present.sum() * counts.absent.sum())


def best_cut(counts: PresenceCounts) -> float:
    """The cut of the best balanced accuracy, of equally good ones the lowest.

    So a prompt is rather kept than dropped in doubt; where scores tell nothing the cut is 0, and
    no prompt is below it.
    """
    return int(_right(counts).argmax()) / _LEVELS  # argmax finds the first


def _right(counts: PresenceCounts) -> Tensor:
    """(L + 1,) int64, at each cut: balanced accuracy as an integer, so that ties are exact."""
    present, absent = counts
    reached = present.flip(0).cumsum(0).flip(0)
    missed = absent.cumsum(0) - absent
    return reached * absent.sum() + missed * present.sum()
