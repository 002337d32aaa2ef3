"""Metrics shared by protocols that threshold probabilities."""

import pytest
import torch

from clipseg_pl.metrics.functional import THRESHOLDS
from clipseg_pl.protocols.overlap import Overlaps, best


@pytest.mark.parametrize("rounding", [-1e-15, 0.0, 1e-15])
def test_best_threshold_is_the_lowest_of_equal_ones_up_to_rounding(rounding):
    """Sums over several ranks have other rounding errors than the sum of one process."""
    curve = torch.zeros(len(THRESHOLDS), dtype=torch.double)
    curve[[9, 20]] = 0.6
    curve[20] += rounding
    assert best(curve) == 0.2
    curve[20] += 1e-6
    assert best(curve) == 0.42


@pytest.mark.parametrize("num_classes", [0, 3])
def test_no_prompts_give_no_metrics_and_no_report(num_classes):
    overlaps = Overlaps(["text"], num_classes)
    assert overlaps.compute(None) == {"text/prompts": 0} and overlaps.report(None, ["a"]) == {}
