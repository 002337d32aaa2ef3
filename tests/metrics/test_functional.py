"""The paper's numbers against plain loops and hand-made cases."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from clipseg_pl.metrics.functional import (
    SCORE_LEVELS,
    THRESHOLDS,
    Counts,
    Histograms,
    average_precision,
    counts_at_thresholds,
    histograms,
    iou_binary,
    iou_foreground,
    paper_average_precision,
    score_levels,
)


def counted_in_a_loop(probability, target, valid) -> np.ndarray:
    """tp, fp, fn, tn at each threshold of each prompt: (4, P, T)."""
    found = np.zeros((4, len(probability), len(THRESHOLDS)), np.int64)
    for prompt in range(len(probability)):
        kept = valid[prompt].numpy()
        p, t = probability[prompt].numpy()[kept], target[prompt].numpy()[kept]
        for position, threshold in enumerate(np.linspace(0, 1, 51)[1:-1].astype(np.float32)):
            passed = p > threshold
            outcomes = (passed & t, passed & ~t, ~passed & t, ~passed & ~t)
            found[:, prompt, position] = [outcome.sum() for outcome in outcomes]
    return found


def assert_equal_to_loop(probability, target, valid=None):
    counts = counts_at_thresholds(histograms(probability, target, valid))
    every = torch.ones_like(target) if valid is None else valid
    wanted = counted_in_a_loop(probability, target, every)
    for name, given, expected in zip(Counts._fields, counts, wanted, strict=True):
        assert given.dtype == torch.int64
        assert np.array_equal(given.numpy(), expected), name


def counts(tp, fp, fn, tn=None) -> Counts:
    given = [torch.tensor(value) for value in (tp, fp, fn, [0] * len(tp) if tn is None else tn)]
    return Counts(*given)


# ---- counting


def test_thresholds_are_those_of_the_paper():
    wanted = [round(0.02 * step, 2) for step in range(1, 50)]
    torch.testing.assert_close(THRESHOLDS, torch.tensor(wanted))
    assert len(THRESHOLDS) == 49


def test_random_probabilities_equal_the_loop():
    probability, target = torch.rand(5, 1, 9, 11), torch.rand(5, 1, 9, 11) > 0.6
    assert_equal_to_loop(probability, target)
    assert_equal_to_loop(probability, target, torch.rand(5, 1, 9, 11) > 0.3)


def test_ties_with_thresholds_and_their_neighbours_equal_the_loop():
    below = torch.nextafter(THRESHOLDS, torch.tensor(0.0))
    above = torch.nextafter(THRESHOLDS, torch.tensor(1.0))
    ends = torch.tensor([0.0, 1.0, 1e-45, 1 - 2**-24])
    probability = torch.cat([below, THRESHOLDS, above, ends]).repeat(2, 2)
    half = probability.shape[1] // 2
    target = torch.zeros(2, 2 * half, dtype=torch.bool)
    target[:, :half] = True
    assert_equal_to_loop(probability, target)


def test_a_probability_equal_to_a_threshold_does_not_pass_it():
    half = torch.tensor([[0.5]])
    passed = counts_at_thresholds(histograms(half, half > 0)).tp[0]
    assert passed[THRESHOLDS < 0.49].all() and not passed[THRESHOLDS > 0.49].any()


def test_16_bit_logits_read_as_float32_equal_the_loop():
    logits = torch.linspace(-9, 9, 400).bfloat16()
    assert_equal_to_loop(logits.float().sigmoid()[None], torch.rand(1, 400) > 0.5)


def test_empty_and_full_targets_equal_the_loop():
    probability = torch.rand(2, 50)
    target = torch.tensor([[False], [True]]).expand(2, 50)
    assert_equal_to_loop(probability, target)


def test_prompts_without_valid_pixels_count_nothing():
    probability, target = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4) > 0.5
    valid = torch.ones_like(target)
    valid[1] = False
    assert_equal_to_loop(probability, target, valid)
    given = histograms(probability, target, valid)
    assert not given.positives[1].any() and not given.negatives[1].any()


def test_no_prompts_give_no_counts():
    given = histograms(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4, dtype=torch.bool))
    assert given.positives.shape == given.negatives.shape == (0, 50)


def test_prompts_are_counted_apart_whatever_their_layout():
    probability = torch.rand(4, 6, 3).transpose(1, 2)  # not contiguous
    target = torch.rand(4, 6, 3).transpose(1, 2) > 0.5
    together = histograms(probability, target)
    for index in range(4):
        alone = histograms(probability[index : index + 1], target[index : index + 1])
        assert torch.equal(together.positives[index], alone.positives[0])
        assert torch.equal(together.negatives[index], alone.negatives[0])


@pytest.mark.parametrize("bad", [float("nan"), -1e-6, 1 + 1e-6, float("inf"), 3.0])
def test_numbers_that_are_no_probabilities_are_refused(bad):
    probability = torch.rand(2, 5)
    probability[1, 3] = bad
    with pytest.raises(ValueError, match=r"probabilities lie in \[0, 1\]"):
        histograms(probability, probability > 0.5)


# ---- IoU


def test_iou_by_hand():
    given = counts(tp=[6, 0, 0], fp=[2, 0, 5], fn=[1, 0, 0], tn=[10, 0, 4])
    torch.testing.assert_close(iou_foreground(given), torch.tensor([6 / 10, 0.0, 0.0]).double())
    wanted = torch.tensor([(6 / 10 + 10 / 14) / 2, 0, (0 + 4 / 10) / 2], dtype=torch.double)
    torch.testing.assert_close(iou_binary(given), wanted)


def test_iou_of_more_pixels_than_float32_can_count():
    given = counts(tp=[2**40], fp=[1], fn=[0], tn=[0])
    assert float(iou_foreground(given)) == 2**40 / (2**40 + 2)


# ---- the paper's AP


def parabolas(x: list[float], y: list[float]) -> float:
    """Simpson's rule on uneven points: the exact integral of a parabola through each three."""
    total = 0.0
    for left in range(0, len(x) - 2, 2):
        three = slice(left, left + 3)
        integral = np.polyint(np.polyfit(x[three], y[three], 2))
        total += np.polyval(integral, x[left + 2]) - np.polyval(integral, x[left])
    return total


def straight(x: list[float], y: list[float]) -> float:
    return (x[1] - x[0]) * (y[0] + y[1]) / 2


def expected_ap(given: Counts) -> float:
    points = set()
    for tp, fp, fn in zip(given.tp.tolist(), given.fp.tolist(), given.fn.tolist(), strict=True):
        if tp + fp:
            points.add((tp / (1 + tp + fn), tp / (1 + tp + fp)))
    x, y = (list(values) for values in zip(*sorted(points), strict=True))
    if len(x) % 2:
        return parabolas(x, y)
    leaving_last = parabolas(x[:-1], y[:-1]) + straight(x[-2:], y[-2:])
    leaving_first = parabolas(x[1:], y[1:]) + straight(x[:2], y[:2])
    return (leaving_last + leaving_first) / 2


def falling_counts(levels: int, rng: np.random.Generator) -> Counts:
    """Counts over rising thresholds, at different recalls."""
    tp = np.sort(rng.choice(np.arange(1, 1000), levels, replace=False))[::-1].copy()
    fp = np.sort(rng.integers(0, 900, levels))[::-1].copy()
    return Counts(*(torch.from_numpy(values) for values in (tp, fp, 1000 - tp, 900 - fp)))


@pytest.mark.parametrize("levels", [3, 4, 5, 6, 48, 49])
def test_paper_ap_equals_parabolas_written_out(levels):
    for seed in range(5):
        given = falling_counts(levels, np.random.default_rng(seed))
        assert paper_average_precision(given) == pytest.approx(expected_ap(given), rel=1e-5)


def test_paper_ap_by_hand():
    """Recall 2/11, 5/11, 8/11 evenly spaced: h / 3 (y0 + 4 y1 + y2)."""
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


def test_paper_ap_leaves_out_thresholds_that_nothing_passes():
    once = counts(tp=[8, 5, 2], fp=[7, 2, 0], fn=[2, 5, 8])
    more = counts(tp=[8, 5, 2, 0, 0], fp=[7, 2, 0, 0, 0], fn=[2, 5, 8, 10, 10])
    assert paper_average_precision(more) == paper_average_precision(once)


@pytest.mark.parametrize(("tp", "fp"), [([0, 0], [0, 0]), ([5, 5], [1, 1]), ([5, 0], [1, 0])])
def test_paper_ap_of_less_than_two_points_is_zero(tp, fp):
    assert paper_average_precision(counts(tp, fp, [10 - value for value in tp])) == 0


def test_paper_ap_is_a_number_where_recall_stands_still():
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
    # falling scores: positive, negative, positive and negative at one score
    given = average_precision(torch.tensor([1, 0, 1]), torch.tensor([1, 1, 0]))
    assert given == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)


def test_usual_ap_without_positives_is_zero():
    assert average_precision(torch.zeros(4).long(), torch.ones(4).long()) == 0


def test_score_levels_keep_the_order_and_take_the_ends():
    scores = torch.cat([torch.zeros(1), torch.logspace(-8, -0.1, 1000), torch.ones(1)])
    levels = score_levels(scores)
    assert levels[0] == 0 and levels[-1] == SCORE_LEVELS - 1
    assert (levels.diff() >= 0).all()


def test_histograms_are_sums():
    one, other = torch.rand(2, 50), torch.rand(3, 50)
    both = torch.cat([one, other])
    parts = [histograms(p, p > 0.3) for p in (one, other)]
    whole = histograms(both, both > 0.3)
    summed = Histograms(*(a.sum(0) + b.sum(0) for a, b in zip(*parts, strict=True)))
    assert torch.equal(whole.positives.sum(0), summed.positives)
    assert torch.equal(whole.negatives.sum(0), summed.negatives)
