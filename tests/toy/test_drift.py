"""One seed gives one result, and the same one as ever."""

import json

import pytest
import torch

from tests.toy.drift import BENCHMARKS, GOLDEN, draw, evaluate, train

TOLERANCE = 1e-4
"""Between one thread and two, and between AVX-512 and AVX2, the numbers differed by 4e-6 at most,
those after twelve steps of training; 25 times that is left for other processors and libraries. On
these few pictures one target that is found or lost moves a mean by 1e-3."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    draw(root)
    return root


@pytest.fixture(scope="module")
def trained_once(world, tmp_path_factory):
    return train(world, tmp_path_factory.mktemp("once") / "run")


def golden(name):
    return json.loads(GOLDEN.read_text())[name]


def test_the_shipped_decoder_is_as_good_as_it_was(world, tmp_path):
    found = evaluate(world, tmp_path)
    for name in BENCHMARKS:
        assert found[name] == pytest.approx(golden(name), abs=TOLERANCE), name


def test_training_comes_to_what_it_came_to(trained_once):
    assert trained_once["metrics"] == pytest.approx(golden("fit"), abs=TOLERANCE)


def test_one_seed_gives_the_same_bits_twice(trained_once, world, tmp_path):
    again = train(world, tmp_path / "run")
    weights = trained_once["weights"]
    assert again["metrics"] == trained_once["metrics"]
    assert all(torch.equal(again["weights"][key], value) for key, value in weights.items())
