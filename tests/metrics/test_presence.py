"""The presence score, and how well it tells present prompts from absent ones."""

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
    """Scores at every thousandth, with draws, of prompts that are absent or not."""
    rng = np.random.default_rng(0)
    absent = rng.random(300) < 0.3
    drawn = np.clip(rng.normal(np.where(absent, 0.4, 0.6), 0.15), 0, 1).round(3)
    return drawn + 1e-5, absent  # inside their levels


def test_the_score_is_the_mean_of_the_highest_hundredth():
    probability = torch.full((2, 1, 20, 30), 0.1)
    probability[0, 0, 3, 4:8] = 0.9  # four of the six highest pixels
    assert presence(probability).tolist() == pytest.approx([(4 * 0.9 + 2 * 0.1) / 6, 0.1])


def test_fewer_pixels_than_a_hundred_give_the_maximum():
    probability = torch.rand(3, 1, 4, 5)
    assert torch.equal(presence(probability), probability.amax((1, 2, 3)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_floating_type_is_averaged_in_float32(dtype):
    probability = torch.rand(4, 1, 96, 96)
    found = presence(probability.to(dtype))
    assert found.dtype == torch.float32
    assert torch.allclose(found, presence(probability), atol=3e-3)


def test_no_prompt_has_no_score():
    assert presence(torch.zeros(0, 1, 96, 96)).shape == (0,)


def test_by_hand():
    counts = counted(present=[0.9, 0.8, 0.35], absent=[0.85, 0.3, 0.2, 0.1])
    # of twelve pairs the absent 0.85 wins two
    assert presence_auc(counts) == pytest.approx(10 / 12)
    # above 0.3 everything present is found and one of four absent ones with it
    assert best_cut(counts) == pytest.approx(0.3001)
    assert balanced_accuracy(counts, best_cut(counts)) == pytest.approx((1 + 3 / 4) / 2)
    assert balanced_accuracy(counts, 0.82) == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert balanced_accuracy(counts, 0.0) == balanced_accuracy(counts, 1.0) == 0.5


def test_of_equally_good_cuts_the_lowest_is_taken():
    # any cut from above 0.2 to 0.3, or from above 0.6 to 0.7: three of four are right
    counts = counted(present=[0.3, 0.7], absent=[0.2, 0.6])
    assert best_cut(counts) == pytest.approx(0.2001)
    assert balanced_accuracy(counts, 0.3) == balanced_accuracy(counts, 0.7) == 0.75


@pytest.mark.parametrize("present, absent", [([0.2, 0.3], [0.6]), ([0.5], [0.5]), ([1.0], [1.0])])
def test_scores_that_tell_nothing_drop_no_prompt(present, absent):
    assert best_cut(counted(present, absent)) == 0.0


def test_a_score_is_counted_at_the_level_below_it():
    counts = counted(present=[0.12345, 0.12349], absent=[0.98765])
    assert counts.present.nonzero()[:, 0].tolist() == [1234]
    assert counts.absent.nonzero()[:, 0].tolist() == [9876]


def test_scores_at_both_ends_count():
    counts = counted(present=[1.0, 1.0], absent=[0.0])
    assert presence_auc(counts) == 1 and balanced_accuracy(counts, best_cut(counts)) == 1
    assert 0 < best_cut(counts) < 1


def test_area_and_accuracy_equal_an_independent_reference(scores):
    score, absent = scores
    counts = counted(score[~absent].tolist(), score[absent].tolist())
    assert presence_auc(counts) == pytest.approx(roc_auc_score(~absent, score), abs=1e-12)
    for cut in (0.25, 0.5, 0.6):
        expected = balanced_accuracy_score(absent, score < cut)
        assert balanced_accuracy(counts, cut) == pytest.approx(expected, abs=1e-12)


def test_the_best_cut_equals_a_search_over_all(scores):
    score, absent = scores
    counts = counted(score[~absent].tolist(), score[absent].tolist())
    below = score[:, None] < np.arange(10_001) / 10_000
    every = (below[absent].mean(0) + (~below[~absent]).mean(0)) / 2
    assert best_cut(counts) == int(np.argmax(np.round(every, 12))) / 10_000
    assert balanced_accuracy(counts, best_cut(counts)) == pytest.approx(every.max())


def test_batches_add_up_and_reset_forgets(scores):
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
def test_one_kind_alone_has_nothing_to_be_told_from(absent):
    metric = Presence()
    metric.update(torch.tensor([0.3, 0.7]), torch.tensor([absent, absent]))
    assert metric.compute() is None
