"""The metrics of the paper, compared with plain loops and computed by hand."""

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
    """Count tp, fp, fn and tn at each threshold of each prompt: (4, P, T)."""
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
    valid = torch.ones_like(target) if valid is None else valid
    wanted = counted_in_a_loop(probability, target, valid)
    for name, actual, expected in zip(Counts._fields, counts, wanted, strict=True):
        assert actual.dtype == torch.int64
        assert np.array_equal(actual.numpy(), expected), name


def counts(tp, fp, fn, tn=None) -> Counts:
    given = [torch.tensor(value) for value in (tp, fp, fn, [0] * len(tp) if tn is None else tn)]
    return Counts(*given)


# ---- counting


def test_thresholds_are_the_49_of_the_paper():
    wanted = [round(0.02 * step, 2) for step in range(1, 50)]
    torch.testing.assert_close(THRESHOLDS, torch.tensor(wanted))
    assert len(THRESHOLDS) == 49


def test_random_probabilities_equal_the_loop():
    probability, target = torch.rand(5, 1, 9, 11), torch.rand(5, 1, 9, 11) > 0.6
    assert_equal_to_loop(probability, target)
    assert_equal_to_loop(probability, target, torch.rand(5, 1, 9, 11) > 0.3)


def test_counting_in_chunks_equals_the_loop(monkeypatch):
    monkeypatch.setattr("clipseg_pl.metrics.cpu_histograms._CHUNK", 7)
    probability, target = torch.rand(3, 1, 9, 11), torch.rand(3, 1, 9, 11) > 0.6
    assert_equal_to_loop(probability, target, torch.rand(3, 1, 9, 11) > 0.3)


def test_other_devices_count_the_same():
    """float64 on a CPU uses the implementation of other devices."""
    near = [torch.nextafter(THRESHOLDS, torch.tensor(end)) for end in (0.0, 1.0)]
    probability = torch.cat([THRESHOLDS, *near, torch.rand(500)]).expand(2, -1)
    target, valid = (torch.rand(probability.shape) > 0.5 for _ in range(2))
    on_cpu = histograms(probability, target, valid)
    elsewhere = histograms(probability.double(), target, valid)
    assert all(torch.equal(one, other) for one, other in zip(on_cpu, elsewhere, strict=True))


def test_probabilities_at_and_next_to_thresholds_equal_the_loop():
    below = torch.nextafter(THRESHOLDS, torch.tensor(0.0))
    above = torch.nextafter(THRESHOLDS, torch.tensor(1.0))
    ends = torch.tensor([0.0, 1.0, 1e-45, 1 - 2**-24])
    probability = torch.cat([below, THRESHOLDS, above, ends]).repeat(2, 2)
    half = probability.shape[1] // 2
    target = torch.zeros(2, 2 * half, dtype=torch.bool)
    target[:, :half] = True
    assert_equal_to_loop(probability, target)


def test_probability_equal_to_a_threshold_does_not_exceed_it():
    half = torch.tensor([[0.5]])
    passed = counts_at_thresholds(histograms(half, half > 0)).tp[0]
    assert passed[THRESHOLDS < 0.49].all() and not passed[THRESHOLDS > 0.49].any()


def test_16_bit_logits_in_float32_equal_the_loop():
    logits = torch.linspace(-9, 9, 400).bfloat16()
    assert_equal_to_loop(logits.float().sigmoid()[None], torch.rand(1, 400) > 0.5)


def test_empty_and_full_targets_equal_the_loop():
    probability = torch.rand(2, 50)
    target = torch.tensor([[False], [True]]).expand(2, 50)
    assert_equal_to_loop(probability, target)


def test_prompt_without_valid_pixels_has_empty_histograms():
    probability, target = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4) > 0.5
    valid = torch.ones_like(target)
    valid[1] = False
    assert_equal_to_loop(probability, target, valid)
    given = histograms(probability, target, valid)
    assert not given.positives[1].any() and not given.negatives[1].any()


def test_no_prompts_give_empty_histograms():
    given = histograms(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4, dtype=torch.bool))
    assert given.positives.shape == given.negatives.shape == (0, 50)


def test_prompts_are_counted_separately_in_non_contiguous_tensors():
    probability = torch.rand(4, 6, 3).transpose(1, 2)  # not contiguous
    target = torch.rand(4, 6, 3).transpose(1, 2) > 0.5
    together = histograms(probability, target)
    for index in range(4):
        alone = histograms(probability[index : index + 1], target[index : index + 1])
        assert torch.equal(together.positives[index], alone.positives[0])
        assert torch.equal(together.negatives[index], alone.negatives[0])


@pytest.mark.parametrize("bad", [float("nan"), -1e-6, 1 + 1e-6, float("inf"), 3.0])
def test_values_that_are_not_probabilities_raise(bad):
    probability = torch.rand(2, 5)
    probability[1, 3] = bad
    with pytest.raises(ValueError, match=r"probabilities must be in \[0, 1\]"):
        histograms(probability, probability > 0.5)


# ---- IoU


def test_iou_by_hand():
    given = counts(tp=[6, 0, 0], fp=[2, 0, 5], fn=[1, 0, 0], tn=[10, 0, 4])
    torch.testing.assert_close(iou_foreground(given), torch.tensor([6 / 10, 0.0, 0.0]).double())
    wanted = torch.tensor([(6 / 10 + 10 / 14) / 2, 0, (0 + 4 / 10) / 2], dtype=torch.double)
    torch.testing.assert_close(iou_binary(given), wanted)


def test_iou_of_more_pixels_than_float32_counts_exactly():
    given = counts(tp=[2**40], fp=[1], fn=[0], tn=[0])
    assert float(iou_foreground(given)) == 2**40 / (2**40 + 2)


def test_histograms_of_batches_add_up():
    one, other = torch.rand(2, 50), torch.rand(3, 50)
    both = torch.cat([one, other])
    parts = [histograms(p, p > 0.3) for p in (one, other)]
    whole = histograms(both, both > 0.3)
    summed = Histograms(*(a.sum(0) + b.sum(0) for a, b in zip(*parts, strict=True)))
    assert torch.equal(whole.positives.sum(0), summed.positives)
    assert torch.equal(whole.negatives.sum(0), summed.negatives)
