"""The paper's AP and the usual AP, compared with independent code and computed by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from clipseg_pl.metrics.functional import (
    SCORE_LEVELS,
    Counts,
    average_precision,
    paper_average_precision,
    score_levels,
)
from tests.metrics.test_functional import counts

# ---- the paper's AP


def parabolas(x: list[float], y: list[float]) -> float:
    """Simpson's rule on uneven points: integrate a parabola through each three points."""
    total = 0.0
    for left in range(0, len(x) - 2, 2):
        three = slice(left, left + 3)
        integral = np.polyint(np.polyfit(x[three], y[three], 2))
        total += np.polyval(integral, x[left + 2]) - np.polyval(integral, x[left])
    return total


def trapezoid(x: list[float], y: list[float]) -> float:
    return (x[1] - x[0]) * (y[0] + y[1]) / 2


def expected_ap(outcomes: Counts) -> float:
    points = set()
    tps, fps, fns = outcomes.tp.tolist(), outcomes.fp.tolist(), outcomes.fn.tolist()
    for tp, fp, fn in zip(tps, fps, fns, strict=True):
        if tp + fp:
            points.add((tp / (1 + tp + fn), tp / (1 + tp + fp)))
    x, y = (list(values) for values in zip(*sorted(points), strict=True))
    if len(x) % 2:
        return parabolas(x, y)
    leaving_last = parabolas(x[:-1], y[:-1]) + trapezoid(x[-2:], y[-2:])
    leaving_first = parabolas(x[1:], y[1:]) + trapezoid(x[:2], y[:2])
    return (leaving_last + leaving_first) / 2


def falling_counts(levels: int, rng: np.random.Generator) -> Counts:
    """Return random counts at increasing thresholds, each with another recall."""
    tp = np.sort(rng.choice(np.arange(1, 1000), levels, replace=False))[::-1].copy()
    fp = np.sort(rng.integers(0, 900, levels))[::-1].copy()
    return Counts(*(torch.from_numpy(values) for values in (tp, fp, 1000 - tp, 900 - fp)))


@pytest.mark.parametrize("levels", [3, 4, 5, 6, 48, 49])
def test_paper_ap_equals_integrals_of_parabolas(levels):
    for seed in range(5):
        given = falling_counts(levels, np.random.default_rng(seed))
        assert paper_average_precision(given) == pytest.approx(expected_ap(given), rel=1e-5)


def test_paper_ap_by_hand():
    """Recalls 2/11, 5/11 and 8/11 are evenly spaced: h / 3 (y0 + 4 y1 + y2)."""
    given = counts(tp=[8, 5, 2], fp=[7, 2, 0], fn=[2, 5, 8])
    wanted = (3 / 11) / 3 * (2 / 3 + 4 * 5 / 8 + 8 / 16)
    assert paper_average_precision(given) == pytest.approx(wanted)


def test_paper_ap_of_two_points_is_the_trapezoid():
    given = counts(tp=[8, 2], fp=[7, 0], fn=[2, 8])
    assert paper_average_precision(given) == pytest.approx(6 / 11 * (2 / 3 + 8 / 16) / 2)


def test_paper_ap_merges_equal_points():
    once = counts(tp=[8, 5, 2], fp=[7, 2, 0], fn=[2, 5, 8])
    twice = counts(tp=[8, 8, 5, 2, 2], fp=[7, 7, 2, 0, 0], fn=[2, 2, 5, 8, 8])
    assert paper_average_precision(twice) == paper_average_precision(once)


def test_paper_ap_drops_thresholds_without_positive_pixels():
    once = counts(tp=[8, 5, 2], fp=[7, 2, 0], fn=[2, 5, 8])
    more = counts(tp=[8, 5, 2, 0, 0], fp=[7, 2, 0, 0, 0], fn=[2, 5, 8, 10, 10])
    assert paper_average_precision(more) == paper_average_precision(once)


@pytest.mark.parametrize(("tp", "fp"), [([0, 0], [0, 0]), ([5, 5], [1, 1]), ([5, 0], [1, 0])])
def test_paper_ap_of_fewer_than_two_points_is_zero(tp, fp):
    assert paper_average_precision(counts(tp, fp, [10 - value for value in tp])) == 0


def test_paper_ap_is_finite_for_equal_recalls():
    given = counts(tp=[8, 8, 8, 5, 2], fp=[9, 8, 7, 2, 0], fn=[2, 2, 2, 5, 8])
    assert 0 <= paper_average_precision(given) <= 1


# ---- the usual AP


def levels_of(scores: np.ndarray, target: np.ndarray) -> tuple[torch.Tensor, np.ndarray]:
    levels = score_levels(torch.from_numpy(scores))
    binned = [torch.bincount(levels[target == side], minlength=SCORE_LEVELS) for side in (1, 0)]
    return binned, levels.numpy()


@pytest.mark.parametrize("seed", range(5))
def test_usual_ap_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    target = rng.random(5000) < 0.2
    scores = 1 / (1 + np.exp(-rng.normal(2 * target, 2))).astype(np.float32)
    (positives, negatives), levels = levels_of(scores, target)
    given = average_precision(positives, negatives)
    assert given == pytest.approx(average_precision_score(target, levels), rel=1e-12)
    assert given == pytest.approx(average_precision_score(target, scores), abs=1e-4)


def test_usual_ap_by_hand():
    # by decreasing score: a positive, a negative, and one of each with the same score
    given = average_precision(torch.tensor([1, 0, 1]), torch.tensor([1, 1, 0]))
    assert given == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)


def test_usual_ap_without_positives_is_zero():
    assert average_precision(torch.zeros(4).long(), torch.ones(4).long()) == 0


def test_score_levels_are_monotonic_and_include_both_ends():
    scores = torch.cat([torch.zeros(1), torch.logspace(-8, -0.1, 1000), torch.ones(1)])
    levels = score_levels(scores)
    assert levels[0] == 0 and levels[-1] == SCORE_LEVELS - 1
    assert (levels.diff() >= 0).all()
