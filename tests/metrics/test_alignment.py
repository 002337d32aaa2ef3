import math

import pytest
import torch

from clipseg_pl.metrics.alignment import delta_p, target_probability


def test_delta_p_by_hand():
    """Gains of 10, 30 and -10 points: mean 10, variance (0 + 400 + 400) / 2."""
    original, modified = torch.tensor([0.2, 0.5, 0.9]), torch.tensor([0.3, 0.8, 0.8])
    gain = delta_p(original, modified)
    assert gain.mean == pytest.approx(10, abs=1e-5)
    assert gain.standard_error == pytest.approx(math.sqrt(400 / 3), abs=1e-5)


def test_delta_p_of_equal_probabilities_is_zero():
    assert delta_p(torch.rand(7), torch.rand(7)).standard_error > 0
    same = torch.rand(7)
    assert delta_p(same, same) == (0, 0)


def test_one_sample_raises():
    with pytest.raises(ValueError, match="two samples, not 1"):
        delta_p(torch.rand(1), torch.rand(1))


def test_probability_by_hand():
    """Cosines 1, 0 and -1, and 0.6, 0.8 and -0.6; the lengths of the vectors do not matter."""
    texts = torch.tensor([[3.0, 0.0], [0.0, 0.1], [-7.0, 0.0]])
    images = torch.tensor([[2.0, 0.0], [30.0, 40.0]])
    first = math.e**2 / (math.e**2 + 1 + math.e**-2)
    second = math.e**1.2 / (math.e**1.2 + math.e**1.6 + math.e**-1.2)
    found = target_probability(images, texts, logit_scale=2.0)
    torch.testing.assert_close(found, torch.tensor([first, second]))
