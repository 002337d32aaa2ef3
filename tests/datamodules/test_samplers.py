"""Order and distribution of samples by the batch samplers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.samplers import EvaluationSampler, TrainingSampler, in_batches


def training(size, batch_size, steps, seed=0, first_step=0, rank=0, world_size=1):
    return TrainingSampler(size, batch_size, seed, steps, first_step, rank, world_size)


def joined(batches):
    return [key for batch in batches for key in batch]


@given(st.integers(1, 23), st.integers(1, 9), st.integers(0, 99))
def test_every_epoch_is_a_permutation(size, batch_size, seed):
    epochs = 4
    steps = -(-size * epochs // batch_size)
    keys = joined(training(size, batch_size, steps, seed))
    for epoch in range(epochs):
        indices = [index for _, index in keys[epoch * size : (epoch + 1) * size]]
        assert {e for e, _ in keys[epoch * size : (epoch + 1) * size]} == {epoch}
        assert sorted(indices) == list(range(size))


def test_order_differs_between_epochs_and_seeds():
    keys = [index for _, index in joined(training(50, 10, 10))]
    assert keys[:50] != list(range(50)) and keys[:50] != keys[50:]
    assert keys != [index for _, index in joined(training(50, 10, 10, seed=1))]
    assert keys == [index for _, index in joined(training(50, 10, 10))]


def test_first_sample_is_uniform_over_seeds():
    firsts = [next(iter(training(5, 1, 1, seed)))[0][1] for seed in range(1000)]
    counts = np.bincount(firsts, minlength=5)
    assert (np.abs(counts - 200) < 60).all()


@given(
    size=st.integers(1, 23),
    batch_size=st.integers(1, 5),
    world_size=st.sampled_from([1, 2, 3]),
    steps=st.integers(1, 12),
)
def test_ranks_together_see_the_samples_of_one_rank(size, batch_size, world_size, steps):
    single = list(training(size, batch_size * world_size, steps))
    ranks = [
        list(training(size, batch_size, steps, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [len(batches) for batches in ranks] == [steps] * world_size
    assert [joined(parts) for parts in zip(*ranks, strict=True)] == single


@given(st.integers(1, 17), st.integers(1, 5), st.sampled_from([(0, 1), (1, 2), (2, 3)]))
def test_resuming_at_any_step_gives_the_remaining_batches(size, batch_size, rank_and_world_size):
    rank, world_size = rank_and_world_size
    whole = list(training(size, batch_size, 11, 3, 0, rank, world_size))
    for first_step in range(12):
        resumed = training(size, batch_size, 11, 3, first_step, rank, world_size)
        assert list(resumed) == whole[first_step:]


def test_length_includes_the_steps_before_a_resume():
    assert len(training(10, 2, steps=7, first_step=4)) == 7


def test_iterating_twice_gives_the_same_batches():
    sampler = training(7, 3, 5)
    assert list(sampler) == list(sampler)


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 9))
def test_evaluation_visits_every_sample_once_in_the_batches_of_one_rank(size, batch, world_size):
    single = list(EvaluationSampler(in_batches(size, batch)))
    assert joined(single) == [(0, index) for index in range(size)]
    assert all(len(keys) == batch for keys in single[:-1])
    for rank in range(world_size):
        sampler = EvaluationSampler(in_batches(size, batch), rank, world_size)
        # without an empty batch, Lightning would skip an idle rank and the others would wait
        assert list(sampler) == (single[rank::world_size] or [[]])
        assert len(sampler) == len(list(sampler))


@pytest.mark.parametrize(("rank", "sizes"), [(0, [3]), (1, [2]), (2, [0]), (3, [0])])
def test_ranks_without_samples_get_an_empty_batch(rank, sizes):
    assert [len(keys) for keys in EvaluationSampler(in_batches(5, 3), rank, 4)] == sizes
