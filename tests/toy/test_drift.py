"""One seed gives one result, and the same one as ever."""

import json
from contextlib import nullcontext

import pytest
import torch

from tests.toy.drift import BENCHMARKS, GOLDEN, draw, evaluate, train

pytestmark = pytest.mark.slow

TOLERANCE = 1e-4
"""For numbers that are continuous in the weights. They differ by 1e-5 at most between one thread
and two, between SSE4, AVX2, AVX-512 and AMX, and when every trained weight is multiplied by
1 + 1e-5 N(0, 1). On these few pictures one target that is found or lost moves a mean by 1e-3."""
COUNTED = {
    "absent_rate@": 0.012,
    "presence_accuracy@": 0.03,
    "presence_auc": 0.003,
    "absent_cut@best": 0.01,
    "threshold@best": 0.021,
}
"""Numbers that count or rank 20 to 89 prompts jump when two nearly equal scores change places, as
one pair does in `presence_auc` between processors: a prompt, five pairs, or one step of a threshold
is allowed."""


def expect(found: dict[str, float], name: str) -> None:
    """Hold metrics against the golden ones, each within its tolerance."""
    golden = json.loads(GOLDEN.read_text())[name]
    assert found.keys() == golden.keys()
    for metric, value in golden.items():
        kind = metric.rsplit("/", 1)[1]
        allowed = next((COUNTED[start] for start in COUNTED if kind.startswith(start)), TOLERANCE)
        assert found[metric] == pytest.approx(value, abs=allowed, rel=0), (name, metric)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    draw(root)
    return root


@pytest.fixture(scope="module")
def trained_once(world, tmp_path_factory):
    return train(world, tmp_path_factory.mktemp("once") / "run")


def test_the_shipped_decoder_is_as_good_as_it_was(world, tmp_path):
    found = evaluate(world, tmp_path)
    for name in BENCHMARKS:
        expect(found[name], name)


def test_training_comes_to_what_it_came_to(trained_once):
    expect(trained_once["metrics"], "fit")


@pytest.mark.parametrize(("pairs", "held"), [(1, True), (40, False)])
def test_one_pair_of_nearly_equal_scores_may_change_places(pairs, held):
    golden = json.loads(GOLDEN.read_text())["fit"]
    moved = {**golden, "val/text/presence_auc": golden["val/text/presence_auc"] - pairs / 89**2}
    with nullcontext() if held else pytest.raises(AssertionError, match="presence_auc"):
        expect(moved, "fit")


def test_one_seed_gives_the_same_bits_twice(trained_once, world, tmp_path):
    again = train(world, tmp_path / "run")
    weights = trained_once["weights"]
    assert again["metrics"] == trained_once["metrics"]
    assert all(torch.equal(again["weights"][key], value) for key, value in weights.items())
