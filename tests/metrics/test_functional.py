"""The paper's numbers against plain loops and hand-made cases."""

import numpy as np
import pytest
import torch

from clipseg_pl.metrics.functional import (
    THRESHOLDS,
    Counts,
    Histograms,
    counts_at_thresholds,
    histograms,
    iou_binary,
    iou_foreground,
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


def test_what_does_not_fit_the_cache_is_counted_in_parts(monkeypatch):
    monkeypatch.setattr("clipseg_pl.metrics.cpu_histograms._CHUNK", 7)
    probability, target = torch.rand(3, 1, 9, 11), torch.rand(3, 1, 9, 11) > 0.6
    assert_equal_to_loop(probability, target, torch.rand(3, 1, 9, 11) > 0.3)


def test_other_devices_count_the_same():
    """Their way is taken for float64 on a CPU as well."""
    near = [torch.nextafter(THRESHOLDS, torch.tensor(end)) for end in (0.0, 1.0)]
    probability = torch.cat([THRESHOLDS, *near, torch.rand(500)]).expand(2, -1)
    target, valid = (torch.rand(probability.shape) > 0.5 for _ in range(2))
    ours = histograms(probability, target, valid)
    for here, there in zip(ours, histograms(probability.double(), target, valid), strict=True):
        assert torch.equal(here, there)


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


def test_histograms_are_sums():
    one, other = torch.rand(2, 50), torch.rand(3, 50)
    both = torch.cat([one, other])
    parts = [histograms(p, p > 0.3) for p in (one, other)]
    whole = histograms(both, both > 0.3)
    summed = Histograms(*(a.sum(0) + b.sum(0) for a, b in zip(*parts, strict=True)))
    assert torch.equal(whole.positives.sum(0), summed.positives)
    assert torch.equal(whole.negatives.sum(0), summed.negatives)
