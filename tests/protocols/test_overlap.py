"""Metrics shared by protocols that threshold probabilities."""

import pytest
import torch

from clipseg_pl.metrics.functional import THRESHOLDS
from clipseg_pl.protocols.overlap import Overlaps, best, threshold_to_store


@pytest.mark.parametrize("rounding", [-1e-15, 0.0, 1e-15])
def test_best_threshold_is_the_lowest_of_equal_ones_up_to_rounding(rounding):
    """Sums over several ranks have other rounding errors than the sum of one process."""
    curve = torch.zeros(len(THRESHOLDS), dtype=torch.double)
    curve[[9, 20]] = 0.6
    curve[20] += rounding
    assert best(curve) == 0.2
    curve[20] += 1e-6
    assert best(curve) == 0.42


def test_curve_of_zeros_has_no_threshold_to_store():
    curve = torch.zeros(len(THRESHOLDS), dtype=torch.double)
    assert threshold_to_store(curve) is None
    curve[9] = 1e-9
    assert threshold_to_store(curve) == 0.2


@pytest.mark.parametrize("num_classes", [0, 3])
def test_no_prompts_give_no_metrics_and_no_report(num_classes):
    overlaps = Overlaps(["text"], num_classes)
    assert overlaps.compute(None) == {"text/prompts": 0} and overlaps.report(None, ["a"]) == {}
