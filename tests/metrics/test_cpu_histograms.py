"""Histograms on a CPU, for any number of thresholds."""

import numpy as np
import pytest

from clipseg_pl.metrics.cpu_histograms import ThresholdCounter


def grid(count):
    return (np.arange(1, count + 1) / (count + 1)).astype(np.float32)


@pytest.mark.parametrize("count", range(1, 127))
def test_thresholds_and_adjacent_floats_are_in_the_right_bin(count):
    """The estimate by multiplication is never too low at 49 thresholds, but at 61 other counts."""
    thresholds, rng = grid(count), np.random.default_rng(count)
    around = [np.nextafter(thresholds, np.float32(end)) for end in (0, 1)]
    ends = np.array([0, 1, 1e-45, 1 - 2**-24], np.float32)
    scores = np.concatenate([thresholds, *around, ends, rng.random(100, np.float32)])
    target, valid = rng.random((2, len(scores))) < 0.6
    wanted = np.zeros((2, count + 1), np.int64)
    for score, truth, counts in zip(scores.tolist(), target, valid, strict=True):
        below = sum(threshold < score for threshold in thresholds.tolist())
        wanted[int(truth), below] += counts
    found = ThresholdCounter(thresholds)(scores[None], target[None], valid[None])
    assert np.array_equal(found[0], wanted)


def test_more_than_126_thresholds_raise():
    with pytest.raises(ValueError, match="at most 126 thresholds are supported, not 127"):
        ThresholdCounter(grid(127))
