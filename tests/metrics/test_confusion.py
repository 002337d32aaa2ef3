"""Confusion matrices and what zero-shot tables make of them, by hand."""

import pytest
import torch

from clipseg_pl.metrics.confusion import ConfusionMatrix, class_iou, generalised_iou


def test_pixels_are_counted_by_true_and_predicted_class():
    metric = ConfusionMatrix(3)
    metric.update(torch.tensor([[0, 1], [2, 2]]), torch.tensor([[0, 2], [2, -1]]))
    metric.update(torch.tensor([1]), torch.tensor([0]))
    assert metric.compute().tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1]]
    metric.reset()
    assert not metric.compute().any()


def test_iou_of_each_class():
    pixels = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    assert class_iou(pixels).tolist() == pytest.approx([6 / 9, 3 / 6, 0])


def test_seen_unseen_and_harmonic():
    pixels = torch.tensor([[6, 2, 0], [1, 3, 0], [0, 0, 5]])
    found = generalised_iou(pixels, {1})
    assert found.seen == pytest.approx((6 / 9 + 1) / 2) and found.unseen == pytest.approx(0.5)
    assert found.harmonic == pytest.approx(2 * found.seen * 0.5 / (found.seen + 0.5))
    assert found.overall == pytest.approx((6 / 9 + 0.5 + 1) / 3)


def test_nothing_right_has_no_harmonic_mean_but_0():
    assert generalised_iou(torch.tensor([[0, 4], [4, 0]]), {1}) == (0, 0, 0, 0)
