"""Metrics from confusion matrices, computed by hand."""

import pytest
import torch

from clipseg_pl.metrics.confusion import class_iou, generalised_iou


def test_class_iou_by_hand():
    pixels = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert class_iou(pixels).tolist() == pytest.approx([6 / 9, 3 / 6, 0])


def test_seen_unseen_and_harmonic_mean_by_hand():
    pixels = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 5]])
    found = generalised_iou(pixels, {1})
    assert found.seen == pytest.approx((6 / 9 + 1) / 2) and found.unseen == pytest.approx(0.5)
    assert found.harmonic == pytest.approx(2 * found.seen * 0.5 / (found.seen + 0.5))
    assert found.overall == pytest.approx((6 / 9 + 0.5 + 1) / 3)


def test_harmonic_mean_is_zero_if_all_predictions_are_wrong():
    assert generalised_iou(torch.tensor([[0, 4], [4, 0]]), {1}) == (0, 0, 0, 0)
