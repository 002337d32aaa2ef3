"""The metrics of the paper as pure functions of pixel counts.

Most metrics are computed from two histograms per prompt: one of the target pixels and one of the
other pixels. Bin k counts the pixels whose probability exceeds exactly k of the thresholds.
Histograms have a constant size and can be added. A cumulative sum turns them into tp, fp, fn and tn
at all thresholds.

Reference: authors' code, metrics.py, `FixedIntervalMetrics`.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clipseg_pl.metrics.cpu_histograms import ThresholdCounter

THRESHOLDS = torch.from_numpy(np.linspace(0, 1, 51)[1:-1].astype(np.float32))
"""(T,) = (49,) float32: 0.02, 0.04, ... 0.98"""

PAPER_THRESHOLD = 0.3
"""the paper's threshold on PhraseCut (Table 3), used if a checkpoint stores none"""

_STORED = "stored in the checkpoint"

SCORE_LEVELS = 1 << 16
_COUNT_ON_CPU = ThresholdCounter(THRESHOLDS.numpy())
_SHARE = 0.01  # share of the pixels that the presence score averages
_LARGEST_LOGIT = 16.0  # about the logit of the largest float32 probability below 1


def threshold_in_use(given: float | None, stored: float | None) -> tuple[float, str]:
    """Return the given threshold, else the one stored in the checkpoint, else the paper's.

    Returns:
        The threshold and a description of its source.
    """
    if given is not None:
        return given, "given"
    if stored is not None:
        return stored, _STORED
    return PAPER_THRESHOLD, "default: the checkpoint stores none"


def cut_in_use(given: float | str | None, stored: float | None) -> tuple[float, str]:
    """Return the absent cut, the presence score below which a prompt is considered absent.

    Args:
        given: the cut, "stored" for the cut in the checkpoint, or None for no cut (0).
        stored: the cut in the checkpoint; None if it stores none.

    Returns:
        The cut and a description of its source.

    Raises:
        ValueError: if `given` is "stored" and the checkpoint stores no cut.
    """
    if given == "stored":
        if stored is None:
            raise ValueError("the checkpoint stores no absent cut; give a number")
        return stored, _STORED
    return (0.0, "default") if given is None else (float(given), "given")


def presence(probability: Tensor) -> Tensor:
    """Return presence scores: the confidence that the prompted object is in the image.

    The score is the mean of the highest 1 % of the probabilities. On the validation split of the
    toy world (drawn scenes; 642 text prompts and 490 visual prompts), the scores of the toy
    checkpoint separate present from absent prompts with an AUC of 0.869 for text prompts and 0.825
    for visual prompts (`presence_auc` of `validate`). If the score is the maximum, the AUCs are
    0.863 and 0.825. If it is the mean of the highest 5 %, they are 0.878 and 0.825, but this score
    is too low for small objects: of 710 targets in COCO's photos, 46 % are smaller than 5 % of the
    image, and 21 % are smaller than 1 %.

    Args:
        probability: (P, 1, H, W), 0 to 1, of any floating-point type, at the model's size.

    Returns:
        (P,) float32, 0 to 1.
    """
    pixels = probability.flatten(1)
    highest = pixels.topk(max(1, round(_SHARE * pixels.shape[1])), sorted=False).values
    return highest.float().mean(1)


class Histograms(NamedTuple):
    """Pixel counts by the number of thresholds below the probability, (..., T + 1) int64 each."""

    positives: Tensor
    """pixels of the target"""
    negatives: Tensor
    """other valid pixels"""


class Counts(NamedTuple):
    """Pixel counts by outcome at each threshold, (..., T) int64 each."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor


def histograms(probability: Tensor, target: Tensor, valid: Tensor | None = None) -> Histograms:
    """Count the pixels between thresholds for each prompt.

    A pixel is positive at threshold t if p > t in float32. A probability equal to a threshold does
    not exceed it.

    Args:
        probability: (P, ...) float32, 0 to 1.
        target: (P, ...) bool.
        valid: (P, ...) bool, pixels to count; all by default.

    Raises:
        ValueError: if a probability is NaN or outside [0, 1].
    """
    prompts, bins = len(probability), len(THRESHOLDS) + 1
    low, high = probability.aminmax() if probability.numel() else (torch.zeros(1), torch.ones(1))
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise ValueError(f"probabilities must be in [0, 1], not in [{float(low)}, {float(high)}]")
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
    index = index.flatten() if valid is None else index[valid.flatten(1)]
    counts = torch.bincount(index, minlength=prompts * 2 * bins).view(prompts, 2, bins)
    return Histograms(positives=counts[:, 1], negatives=counts[:, 0])


def counts_at_thresholds(pixels: Histograms) -> Counts:
    """Convert histograms (..., T + 1) to outcomes at each threshold (..., T)."""
    tp, fp = _above(pixels.positives), _above(pixels.negatives)
    fn = pixels.positives.sum(-1, keepdim=True) - tp
    tn = pixels.negatives.sum(-1, keepdim=True) - fp
    return Counts(tp, fp, fn, tn)


def iou_foreground(counts: Counts) -> Tensor:
    """Return IoU_FG = tp / (1 + tp + fp + fn), (..., T) float64.

    The 1 in the denominator is from the authors' code. See docs/deviations.md (denominators).

    Reference: authors' code, metrics.py, `FixedIntervalMetrics`.
    """
    return counts.tp.double() / (1 + counts.tp + counts.fp + counts.fn)


def dice(counts: Counts) -> Tensor:
    """Return Dice = 2 tp / (1 + 2 tp + fp + fn), (..., T) float64.

    This is 2 IoU / (1 + IoU) with the IoU of `iou_foreground`.
    """
    return 2 * counts.tp.double() / (1 + 2 * counts.tp + counts.fp + counts.fn)


def iou_binary(counts: Counts) -> Tensor:
    """Return IoU_BIN, the mean of the foreground's and the background's IoU: (..., T) float64."""
    background = counts.tn.double() / (1 + counts.tn + counts.fn + counts.fp)
    return (iou_foreground(counts) + background) / 2


def paper_average_precision(counts: Counts) -> float:
    """Return the paper's AP: Simpson's rule over precision and recall at the thresholds.

    Each threshold gives a point, its recall and precision. Thresholds that no pixel exceeds are
    dropped, equal points are merged, and the remaining points are sorted by recall. Recall does not
    reach 0 or 1, so the area below the lowest and above the highest recall is missing. This is
    therefore not the usual AP (`average_precision`). See docs/deviations.md (average-precision).

    An even number of points is integrated as scipy did at the time of the paper: as the mean of
    two integrals, in which the trapezoid rule covers either the last or the first interval.

    The result is not robust on small datasets, in which several thresholds have the same recall:
    Simpson's rule is undefined for intervals of zero width, and scipy drops part of them.

    Args:
        counts: (T,) each, summed over the dataset.

    Reference: authors' code, metrics.py, `FixedIntervalMetrics`.
    """
    from scipy.integrate import simpson, trapezoid  # slow, and not needed for segmenting a photo

    tp, fp, fn = (value.double().cpu().numpy() for value in (counts.tp, counts.fp, counts.fn))
    reached = tp + fp > 0
    recall, precision = tp / (1 + tp + fn), tp / (1 + tp + fp)
    points = np.unique(np.stack([recall[reached], precision[reached]], 1), axis=0)
    if len(points) < 2:
        return 0.0
    x, y = points.T
    if len(x) % 2:
        return float(simpson(y, x=x))
    first = (simpson(y[:-1], x=x[:-1]) if len(x) > 2 else 0.0) + trapezoid(y[-2:], x[-2:])
    last = (simpson(y[1:], x=x[1:]) if len(x) > 2 else 0.0) + trapezoid(y[:2], x[:2])
    return float((first + last) / 2)


def score_levels(probability: Tensor) -> Tensor:
    """Quantise probabilities to `SCORE_LEVELS` levels, uniform in the logit: (...) int64."""
    logit = torch.logit(probability).clamp(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    scaled = (logit + _LARGEST_LOGIT) * ((SCORE_LEVELS - 1) / (2 * _LARGEST_LOGIT))
    return scaled.round().long()


def average_precision(positives: Tensor, negatives: Tensor) -> float:
    """Return the usual AP, the sum of (R_n - R_(n-1)) P_n over decreasing scores.

    R_n and P_n are the recall and precision at the n-th highest score, used as the threshold.

    Args:
        positives: (L,) int64, number of target pixels at each of L increasing score levels.
        negatives: (L,) int64, number of other pixels at each level.

    Returns:
        scikit-learn's `average_precision_score` on the quantised scores; 0 without positives.
    """
    tp = positives.flip(0).cumsum(0).double()
    fp = negatives.flip(0).cumsum(0).double()
    if not tp[-1]:
        return 0.0
    precision = tp / (tp + fp).clamp(min=1)
    return float((positives.flip(0) * precision).sum() / tp[-1])


def _above(histogram: Tensor) -> Tensor:
    """Convert counts of pixels above exactly k thresholds to counts above each threshold.

    (..., T + 1) becomes (..., T).
    """
    return histogram.flip(-1).cumsum(-1).flip(-1)[..., 1:]
