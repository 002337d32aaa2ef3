"""Support images, text weights and prefixes of samples.

A task is one phrase about one photo. Its partners are the other tasks with the same phrase.
"""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from clipseg_pl.prompts.text import PREFIXES
from clipseg_pl.prompts.visual import MEAN_COLOUR
from datamodules.datasets.prompted import Prompting
from tests.datasets.numbered import InMemoryPhrases, prompted, support_tasks

SOURCE = InMemoryPhrases("a b a c b a")  # a: 0 2 5, b: 1 4, c: 3
EPOCHS = 300


def support_counts(train=True, **settings):
    """Return task -> how often each other task was its support; key None means no support."""
    dataset = prompted(SOURCE, train=train, **{"negative_prob": 0.0, **settings})
    counts = {task: Counter() for task in range(len(SOURCE))}
    for epoch in range(EPOCHS):
        for task, counter in counts.items():
            counter[(support_tasks(dataset[epoch, task]) or [None])[0]] += 1
    return counts


def assert_uniform(counter, expected):
    assert set(counter) == set(expected)
    if len(expected) > 1:
        assert stats.chisquare([counter[task] for task in expected]).pvalue > 1e-3


def test_support_is_another_task_with_the_same_phrase():
    counts = support_counts()
    for task, partners in {0: [2, 5], 2: [0, 5], 5: [0, 2], 1: [4], 4: [1], 3: [None]}.items():
        assert_uniform(counts[task], partners)


def test_paper_rule_uses_the_query_as_support_once_in_n():
    """n is the number of tasks with the phrase. See docs/deviations.md (support-not-query)."""
    counts = support_counts(exclude_query=False)
    for task, partners in {0: [0, 2, 5], 2: [0, 2, 5], 1: [1, 4], 4: [1, 4], 3: [None]}.items():
        assert_uniform(counts[task], partners)


def test_paper_rule_gives_no_support_to_phrases_of_one_task():
    dataset = prompted(SOURCE, negative_prob=1.0, exclude_query=False)
    for epoch in range(100):
        sample = dataset[epoch, 0]  # a negative with phrase b or c
        assert bool(support_tasks(sample)) == (sample["prompts"][0]["phrase"] == "b")


def test_phrase_without_partner_has_only_text():
    dataset = prompted(SOURCE, negative_prob=0.0, text_weight_max=0.5)
    for epoch in range(50):
        lone, paired = dataset[epoch, 3]["prompts"][0], dataset[epoch, 0]["prompts"][0]
        assert lone["supports"] == [] and lone["mix_weight"] == 1
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
def test_numbers_out_of_range_raise(settings):
    with pytest.raises(ValueError, match="|".join(settings)):
        Prompting(**settings)


@pytest.mark.parametrize("train", [True, False])
def test_supports_can_be_disabled(train):
    dataset = prompted(SOURCE, train=train, supports=False)
    prompts = [prompt for i in range(6) for prompt in dataset[0, i]["prompts"]]
    assert all(not prompt["supports"] and prompt["mix_weight"] == 1 for prompt in prompts)


def test_blank_supports_are_used_in_evaluation_only():
    train, evaluation = (prompted(SOURCE, train, blank_support=True) for train in (True, False))
    for epoch in range(20):
        for prompt in train[epoch, 3]["prompts"]:
            assert not prompt["supports"] or prompt["negative"]
    (blank,) = evaluation[0, 3]["prompts"][0]["supports"]
    assert blank.shape == (3, 8, 8) and blank.dtype == torch.uint8
    assert blank[:, 2, 5].tolist() == [round(value) for value in MEAN_COLOUR]
    assert (blank == blank[:, :1, :1]).all()
    assert support_tasks(evaluation[0, 1]) == [4]  # phrases with a partner are unaffected
    assert prompted(SOURCE, train=False)[0, 3]["prompts"][0]["supports"] == []


class GradientPhotos(InMemoryPhrases):
    """Photos whose brightness grows by 10 per column, from left to right."""

    def image(self, task):
        return np.tile(np.arange(16, dtype=np.uint8)[None, :, None] * 10, (12, 1, 3))


def test_supports_are_cropped_in_training_and_squashed_whole_in_evaluation():
    for epoch in range(20):
        for train, columns in ((True, 12), (False, 16)):
            dataset = prompted(GradientPhotos("a a"), train, negative_prob=0.0)
            row = dataset[epoch, 0]["prompts"][0]["supports"][0][0, 0].int()
            # each of the 8 output pixels has the mean of the columns / 8 columns it covers
            assert int(row[-1] - row[0]) == pytest.approx(10 * columns * 7 / 8, abs=2)


@pytest.mark.parametrize("name", PREFIXES)
def test_prefixes_are_sampled_in_training_only(name):
    source = InMemoryPhrases("zebra okapi zebra")
    train, evaluation = (prompted(source, train, prefixes=name) for train in (True, False))
    prompts = [train[epoch, 0]["prompts"][0] for epoch in range(EPOCHS)]
    counts = Counter(prompt["text_prompt"].replace(prompt["phrase"], "{}") for prompt in prompts)
    assert_uniform(counts, PREFIXES[name])
    prompts = [prompt for task in range(3) for prompt in evaluation[0, task]["prompts"]]
    assert all(prompt["text_prompt"] == prompt["phrase"] for prompt in prompts)
