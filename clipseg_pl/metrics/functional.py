"""The paper's numbers as pure functions of pixel counts.

Every number starts from two histograms a prompt: how many target pixels, and how many others,
have a probability above exactly k of the thresholds. They are of constant size, sums of them are
histograms of the union, and tp, fp, fn and tn at all thresholds follow by a cumulative sum.

Reference: the authors' `FixedIntervalMetrics`.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import simpson, trapezoid
from torch import Tensor

from clipseg_pl.metrics.cpu_histograms import ThresholdCounter

THRESHOLDS = torch.from_numpy(np.linspace(0, 1, 51)[1:-1].astype(np.float32))
"""(T,) = (49,) float32: 0.02, 0.04, ... 0.98"""

PAPER_THRESHOLD = 0.3
"""the paper's on PhraseCut (Table 3), where a model has no better one of its own"""

_STORED = "stored in the checkpoint"

SCORE_LEVELS = 1 << 16
_COUNT_ON_CPU = ThresholdCounter(THRESHOLDS.numpy())
_SHARE = 0.01  # of the pixels, whose mean is the presence
_LARGEST_LOGIT = 16.0  # float32 probabilities near 1 resolve no more


def threshold_in_use(given: float | None, stored: float | None) -> tuple[float, str]:
    """A threshold that is given, else the one stored in a checkpoint, else the paper's.

    Returns:
        The threshold, and where it comes from.
    """
    if given is not None:
        return given, "given"
    if stored is not None:
        return stored, _STORED
    return PAPER_THRESHOLD, "default: the checkpoint stores none"


def cut_in_use(given: float | str | None, stored: float | None) -> tuple[float, str]:
    """An absent cut that is given: a number, "kept" for the stored one, or None for no cut.

    Returns:
        The cut, and where it comes from.

    Raises:
        ValueError: "kept" where no cut is stored.
    """
    if given == "kept":
        if stored is None:
            raise ValueError("the checkpoint stores no absent cut: give a number")
        return stored, _STORED
    return (0.0, "default") if given is None else (float(given), "given")


def presence(probability: Tensor) -> Tensor:
    """Score how sure a model is that what it was asked for is in the image.

    The mean of the highest 1 % of the probabilities. On the toy world's validation split (642
    prompts by text, 490 by visual prompt) the shipped decoder's tell present from absent ones with
    an AUC of 0.869 and 0.825, which `validate` gives as `presence_auc`. The maximum reaches 0.863
    and 0.825, the mean of the highest 5 % 0.878 and 0.825; but a thing smaller than the share
    cannot fill it, and of 710 targets in COCO's photos 46 % are smaller than 5 % of the image, 21 %
    than 1 %.

    Args:
        probability: (P, 1, H, W), 0 to 1, of any floating type, at the model's size.

    Returns:
        (P,) float32, 0 to 1.
    """
    pixels = probability.flatten(1)
    highest = pixels.topk(max(1, round(_SHARE * pixels.shape[1])), sorted=False).values
    return highest.float().mean(1)


class Histograms(NamedTuple):
    """Pixels by the number of thresholds below their probability, (..., T + 1) int64 each."""

    positives: Tensor
    """pixels of the target"""
    negatives: Tensor
    """the other valid pixels"""


class Counts(NamedTuple):
    """Pixels by outcome at each threshold, (..., T) int64 each."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


def histograms(probability: Tensor, target: Tensor, valid: Tensor | None = None) -> Histograms:
    """Count pixels between thresholds, for every prompt.

    A pixel is positive at threshold t if p > t, strictly, both as float32: a probability equal
    to a threshold does not pass it.

    Args:
        probability: (P, ...) float32, 0 to 1.
        target: (P, ...) bool.
        valid: (P, ...) bool, pixels to count; all by default.

    Raises:
        ValueError: for a probability that is not a number, or outside [0, 1].
    """
    prompts, bins = len(probability), len(THRESHOLDS) + 1
    low, high = probability.aminmax() if probability.numel() else (torch.zeros(1), torch.ones(1))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise ValueError(f"probabilities lie in [0, 1], not in [{float(low)}, {float(high)}]")
    if probability.is_cpu and probability.dtype == torch.float32:
        scores, truth = probability.detach().flatten(1).numpy(), target.flatten(1).numpy()
        counted = _COUNT_ON_CPU(scores, truth, None if valid is None else valid.flatten(1).numpy())
        counts = torch.from_numpy(counted)
        return Histograms(positives=counts[:, 1], negatives=counts[:, 0])
    # right=False counts the thresholds strictly below p
    passed = torch.bucketize(
        probability.flatten(1).contiguous(), THRESHOLDS.to(probability.device), out_int32=True
    )
    owner = torch.arange(prompts, device=probability.device, dtype=torch.int32)[:, None]
    index = (owner * 2 + target.flatten(1)) * bins + passed
    kept = index.flatten() if valid is None else index[valid.flatten(1)]
    counts = torch.bincount(kept, minlength=prompts * 2 * bins).view(prompts, 2, bins)
    return Histograms(positives=counts[:, 1], negatives=counts[:, 0])


def counts_at_thresholds(given: Histograms) -> Counts:
    """Turn histograms (..., T + 1) into outcomes at each threshold (..., T)."""
    tp, fp = _above(given.positives), _above(given.negatives)
    fn = given.positives.sum(-1, keepdim=True) - tp
    tn = given.negatives.sum(-1, keepdim=True) - fp
    return Counts(tp, fp, fn, tn)


def iou_foreground(counts: Counts) -> Tensor:
    """Tp / (1 + tp + fp + fn), (..., T) float64; the authors' denominators have the one more."""
    return counts.tp.double() / (1 + counts.tp + counts.fp + counts.fn)


def iou_binary(counts: Counts) -> Tensor:
    """Mean of the foreground's and the background's IoU: (..., T) float64."""
    background = counts.tn.double() / (1 + counts.tn + counts.fn + counts.fp)
    return (iou_foreground(counts) + background) / 2


def paper_average_precision(counts: Counts) -> float:
    """The paper's AP: Simpson's rule over the precision-recall points of the thresholds.

    Thresholds that nothing passes are left out, equal points merged, the rest sorted by recall.
    Recall does not reach 0 or 1, so what lies outside the first and the last threshold is
    missing: this is not the usual AP (`average_precision`). An even number of points is handled
    as scipy did when the paper was written: the mean of leaving out the last and the first
    interval, which the trapezoid then covers.

    On small sets, where several thresholds share a recall, the number is fragile: Simpson's rule
    knows no intervals of no width (scipy then leaves out their part).

    Args:
        counts: (T,) each, summed over the dataset.
    """
    tp, fp, fn = (value.double().cpu().numpy() for value in (counts.tp, counts.fp, counts.fn))
    passed = tp + fp > 0
    recall, precision = tp / (1 + tp + fn), tp / (1 + tp + fp)
    points = np.unique(np.stack([recall[passed], precision[passed]], 1), axis=0)
    if len(points) < 2:
        return 0.0
    x, y = points.T
    if len(x) % 2:
        return float(simpson(y, x=x))
    first = (simpson(y[:-1], x=x[:-1]) if len(x) > 2 else 0.0) + trapezoid(y[-2:], x[-2:])
    last = (simpson(y[1:], x=x[1:]) if len(x) > 2 else 0.0) + trapezoid(y[:2], x[:2])
    return float((first + last) / 2)


def score_levels(probability: Tensor) -> Tensor:
    """Sort probabilities into `SCORE_LEVELS` bins, equally wide in the logit: (...) int64."""
    logit = torch.logit(probability).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    scaled = (logit + _LARGEST_LOGIT) * ((SCORE_LEVELS - 1) / (2 * _LARGEST_LOGIT))
    return scaled.round().long()


def average_precision(positives: Tensor, negatives: Tensor) -> float:
    """The usual AP, sum of (R_n - R_(n-1)) P_n over falling scores, from score histograms.

    Args:
        positives: (L,) int64, target pixels at each score, rising; L levels.
        negatives: (L,) int64, the other pixels.

    Returns:
        Equal to scikit-learn's `average_precision_score` on the scores so binned; 0 where there
        is no positive.
    """
    tp = positives.flip(0).cumsum(0).double()
    fp = negatives.flip(0).cumsum(0).double()
    if not tp[-1]:
        return 0.0
    precision = tp / (tp + fp).clamp(min=1)
    return float((positives.flip(0) * precision).sum() / tp[-1])


def _above(histogram: Tensor) -> Tensor:
    """(..., T + 1) pixels that passed exactly k thresholds -> (..., T) that passed threshold k."""
    return histogram.flip(-1).cumsum(-1).flip(-1)[..., 1:]
