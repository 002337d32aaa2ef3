"""The presence score, its metrics and the absent cut."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from clipseg_pl.metrics.functional import presence
from clipseg_pl.metrics.presence import Presence, balanced_accuracy, best_cut, presence_auc


def counted(present: list[float], absent: list[float]):
    metric = Presence()
    scores = torch.tensor([*present, *absent])
    metric.update(scores, torch.arange(len(scores)) >= len(present))
    return metric.compute()


@pytest.fixture
def scores():
    """Scores of present and absent prompts, rounded to thousandths so that there are ties."""
    rng = np.random.default_rng(0)
    absent = rng.random(300) < 0.3
    drawn = np.clip(rng.normal(np.where(absent, 0.4, 0.6), 0.15), 0, 1).round(3)
    return drawn + 1e-5, absent  # not at the edge of a level


def test_score_is_the_mean_of_the_highest_1_percent():
    probability = torch.full((2, 1, 20, 30), 0.1)
    probability[0, 0, 3, 4:8] = 0.9  # four of the six highest pixels
    assert presence(probability).tolist() == pytest.approx([(4 * 0.9 + 2 * 0.1) / 6, 0.1])


def test_score_of_fewer_than_100_pixels_is_the_maximum():
    probability = torch.rand(3, 1, 4, 5)
    assert torch.equal(presence(probability), probability.amax((1, 2, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_all_floating_types_are_averaged_in_float32(dtype):
    probability = torch.rand(4, 1, 96, 96)
    found = presence(probability.to(dtype))
    assert found.dtype == torch.float32
    assert torch.allclose(found, presence(probability), atol=3e-3)


def test_no_prompts_give_no_scores():
    assert presence(torch.zeros(0, 1, 96, 96)).shape == (0,)


def test_metrics_and_cut_by_hand():
    counts = counted(present=[0.9, 0.8, 0.35], absent=[0.85, 0.3, 0.2, 0.1])
    # the absent 0.85 is above the present one in 2 of 12 pairs
    assert presence_auc(counts) == pytest.approx(10 / 12)
    # above 0.3 are all present prompts and one of four absent ones
    assert best_cut(counts) == pytest.approx(0.3001)
    assert balanced_accuracy(counts, best_cut(counts)) == pytest.approx((1 + 3 / 4) / 2)
    assert balanced_accuracy(counts, 0.82) == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert balanced_accuracy(counts, 0.0) == balanced_accuracy(counts, 1.0) == 0.5


def test_best_cut_is_the_lowest_of_equally_good_ones():
    # three of four prompts are correct for cuts in (0.2, 0.3] and (0.6, 0.7]
    counts = counted(present=[0.3, 0.7], absent=[0.2, 0.6])
    assert best_cut(counts) == pytest.approx(0.2001)
    assert balanced_accuracy(counts, 0.3) == balanced_accuracy(counts, 0.7) == 0.75


@pytest.mark.parametrize("present, absent", [([0.2, 0.3], [0.6]), ([0.5], [0.5]), ([1.0], [1.0])])
def test_uninformative_scores_give_a_cut_of_zero(present, absent):
    assert best_cut(counted(present, absent)) == 0.0


def test_scores_are_rounded_down_to_a_level():
    counts = counted(present=[0.12345, 0.12349], absent=[0.98765])
    assert counts.present.nonzero()[:, 0].tolist() == [1234]
    assert counts.absent.nonzero()[:, 0].tolist() == [9876]


def test_scores_of_0_and_1_are_counted():
    counts = counted(present=[1.0, 1.0], absent=[0.0])
    assert presence_auc(counts) == 1 and balanced_accuracy(counts, best_cut(counts)) == 1
    assert 0 < best_cut(counts) < 1


def test_auc_and_accuracy_equal_scikit_learn(scores):
    score, absent = scores
    counts = counted(score[~absent].tolist(), score[absent].tolist())
    assert presence_auc(counts) == pytest.approx(roc_auc_score(~absent, score), abs=1e-12)
    for cut in (0.25, 0.5, 0.6):
        expected = balanced_accuracy_score(absent, score < cut)
        assert balanced_accuracy(counts, cut) == pytest.approx(expected, abs=1e-12)


def test_best_cut_equals_an_exhaustive_search(scores):
    score, absent = scores
    counts = counted(score[~absent].tolist(), score[absent].tolist())
    below = score[:, None] < np.arange(10_001) / 10_000
    accuracy = (below[absent].mean(0) + (~below[~absent]).mean(0)) / 2
    assert best_cut(counts) == int(np.argmax(np.round(accuracy, 12))) / 10_000
    assert balanced_accuracy(counts, best_cut(counts)) == pytest.approx(accuracy.max())


def test_batches_add_up_and_reset_clears_them(scores):
    score, absent = (torch.tensor(values) for values in scores)
    whole, parts = Presence(), Presence()
    whole.update(score, absent)
    for part in (slice(0, 100), slice(100, 100), slice(100, 300)):
        parts.update(score[part], absent[part])
    assert all(map(torch.equal, whole.compute(), parts.compute()))
    whole.reset()
    whole.update(score[:0], absent[:0])
    assert whole.compute() is None


@pytest.mark.parametrize("absent", [True, False])
def test_only_present_or_only_absent_prompts_give_none(absent):
    metric = Presence()
    metric.update(torch.tensor([0.3, 0.7]), torch.tensor([absent, absent]))
    assert metric.compute() is None
