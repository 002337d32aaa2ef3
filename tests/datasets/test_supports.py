from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from clipseg_pl.prompts.text import PREFIXES
from clipseg_pl.prompts.visual import MEAN_COLOUR
from datamodules.datasets.prompted import Prompting
from tests.datasets.numbered import Numbered, prompted, shown

SOURCE = Numbered("a b a c b a")  # a: 0 2 5, b: 1 4, c: 3
EPOCHS = 300


def drawn_supports(train=True, **settings):
    """Task -> how often each task was its support (None: no support)."""
    dataset = prompted(SOURCE, train=train, **{"negative_prob": 0.0, **settings})
    counts = {task: Counter() for task in range(len(SOURCE))}
    for epoch in range(EPOCHS):
        for task, counter in counts.items():
            counter[(shown(dataset[epoch, task]) or [None])[0]] += 1
    return counts


def assert_uniform(counter, expected):
    assert set(counter) == set(expected)
    if len(expected) > 1:
        assert stats.chisquare([counter[task] for task in expected]).pvalue > 1e-3


def test_another_task_with_the_same_phrase():
    counts = drawn_supports()
    for task, partners in {0: [2, 5], 2: [0, 5], 5: [0, 2], 1: [4], 4: [1], 3: [None]}.items():
        assert_uniform(counts[task], partners)


def test_the_papers_rule_takes_the_query_itself_once_in_n():
    counts = drawn_supports(exclude_query=False)
    for task, partners in {0: [0, 2, 5], 2: [0, 2, 5], 1: [1, 4], 4: [1, 4], 3: [None]}.items():
        assert_uniform(counts[task], partners)


def test_the_papers_rule_gives_no_support_to_a_phrase_of_one_task():
    dataset = prompted(SOURCE, negative_prob=1.0, exclude_query=False)
    for epoch in range(100):
        sample = dataset[epoch, 0]  # drawn: b or c
        assert bool(shown(sample)) == (sample["prompts"][0]["phrase"] == "b")


def test_without_a_partner_the_text_stands_alone():
    dataset = prompted(SOURCE, negative_prob=0.0, text_weight_max=0.5)
    for epoch in range(50):
        alone, paired = dataset[epoch, 3]["prompts"][0], dataset[epoch, 0]["prompts"][0]
        assert alone["supports"] == [] and alone["mix_weight"] == 1
        assert len(paired["supports"]) == 1 and paired["mix_weight"] <= 0.5


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (1.0, 1.0)])
def test_text_weight_is_uniform_between_its_bounds(lowest, highest):
    settings = {"text_weight_min": lowest, "text_weight_max": highest, "negative_prob": 0.0}
    dataset = prompted(SOURCE, **settings)
    weights = [dataset[epoch, 0]["prompts"][0]["mix_weight"] for epoch in range(EPOCHS)]
    assert all(lowest <= weight <= highest for weight in weights)
    if lowest < highest:
        assert stats.kstest(weights, "uniform", (lowest, highest - lowest)).pvalue > 1e-3


@pytest.mark.parametrize(
    "settings",
    [
        {"negative_prob": -0.1},
        {"negative_prob": 1.1},
        {"text_weight_min": -0.1},
        {"text_weight_max": 1.1},
        {"text_weight_min": 0.6, "text_weight_max": 0.5},
        {"negative_prob": float("nan")},
        {"text_weight_max": float("nan")},
    ],
)
def test_numbers_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ValueError, match="|".join(settings)):
        Prompting(**settings)


@pytest.mark.parametrize("train", [True, False])
def test_supports_can_be_left_out(train):
    dataset = prompted(SOURCE, train=train, supports=False)
    prompts = [prompt for i in range(6) for prompt in dataset[0, i]["prompts"]]
    assert all(not prompt["supports"] and prompt["mix_weight"] == 1 for prompt in prompts)


def test_blank_support_in_evaluation_only():
    train, evaluation = (prompted(SOURCE, train, blank_support=True) for train in (True, False))
    for epoch in range(20):
        for prompt in train[epoch, 3]["prompts"]:
            assert not prompt["supports"] or prompt["negative"]
    (blank,) = evaluation[0, 3]["prompts"][0]["supports"]
    assert blank.shape == (3, 8, 8) and blank.dtype == torch.uint8
    assert blank[:, 2, 5].tolist() == [round(value) for value in MEAN_COLOUR]
    assert (blank == blank[:, :1, :1]).all()
    assert shown(evaluation[0, 1]) == [4]  # phrases with a partner keep it
    assert prompted(SOURCE, train=False)[0, 3]["prompts"][0]["supports"] == []


class Sloping(Numbered):
    """Photos that grow brighter from left to right, by 10 a column."""

    def image(self, task):
        return np.tile(np.arange(16, dtype=np.uint8)[None, :, None] * 10, (12, 1, 3))


def test_supports_are_cropped_in_training_and_squashed_whole_in_evaluation():
    for epoch in range(20):
        for train, columns in ((True, 12), (False, 16)):
            prompt = prompted(Sloping("a a"), train, negative_prob=0.0)[epoch, 0]["prompts"][0]
            row = prompt["supports"][0][0, 0].int()
            # eight pixels stand for all columns, the first and last in the middle of their share
            assert int(row[-1] - row[0]) == pytest.approx(10 * columns * 7 / 8, abs=2)


@pytest.mark.parametrize("name", PREFIXES)
def test_training_draws_prefixes_evaluation_reads_the_bare_phrase(name):
    source = Numbered("zebra okapi zebra")
    train, evaluation = (prompted(source, train, prefixes=name) for train in (True, False))
    prompts = [train[epoch, 0]["prompts"][0] for epoch in range(EPOCHS)]
    drawn = Counter(prompt["text_prompt"].replace(prompt["phrase"], "{}") for prompt in prompts)
    assert_uniform(drawn, PREFIXES[name])
    prompts = [prompt for task in range(3) for prompt in evaluation[0, task]["prompts"]]
    assert all(prompt["text_prompt"] == prompt["phrase"] for prompt in prompts)
