"""Reading curves over the thresholds."""

import pytest
import torch

from clipseg_pl.metrics.functional import THRESHOLDS
from clipseg_pl.protocols.overlap import Overlaps, best


@pytest.mark.parametrize("rounding", [-1e-15, 0.0, 1e-15])
def test_of_equally_good_thresholds_the_lowest_is_best_whatever_the_rounding(rounding):
    """Sums over ranks are rounded in another order than those of one process."""
    curve = torch.zeros(len(THRESHOLDS), dtype=torch.double)
    curve[[9, 20]] = 0.6
    curve[20] += rounding
    assert best(curve) == 0.2
    curve[20] += 1e-6
    assert best(curve) == 0.42


@pytest.mark.parametrize("num_classes", [0, 3])
def test_nothing_measured_makes_no_curves(num_classes):
    overlaps = Overlaps(["text"], num_classes)
    assert overlaps.compute(None) == {"text/prompts": 0} and overlaps.report(None, ["a"]) == {}
