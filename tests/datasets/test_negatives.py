"""Negatives (other phrases, with an empty mask) in training, absent phrases in evaluation."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from tests.datasets.numbered import InMemoryPhrases, prompted, support_tasks

SOURCE = InMemoryPhrases("a a a a a a b b c d")
EPOCHS = 300


def training_prompts(source=SOURCE, **settings):
    """Yield task, sample and its only prompt, for many epochs."""
    dataset = prompted(source, **settings)
    for epoch in range(EPOCHS):
        for task in range(len(source)):
            sample = dataset[epoch, task]
            (prompt,) = sample["prompts"]
            yield task, sample, prompt


@pytest.mark.parametrize("probability", [0.2, 0.7])
def test_rate_of_negatives_is_negative_prob(probability):
    negative = [prompt["negative"] for _, _, prompt in training_prompts(negative_prob=probability)]
    assert stats.binomtest(sum(negative), len(negative), probability).pvalue > 1e-3


@pytest.mark.parametrize(("probability", "expected"), [(0.0, {False}), (1.0, {True})])
def test_negative_prob_of_0_gives_no_negatives_and_of_1_only_negatives(probability, expected):
    prompts = training_prompts(negative_prob=probability)
    assert {prompt["negative"] for _, _, prompt in prompts} == expected


def test_negative_has_another_phrase_and_an_empty_mask():
    for task, _, prompt in training_prompts(negative_prob=0.5):
        own = SOURCE.phrases[SOURCE.phrase(task)]
        assert prompt["negative"] == (prompt["phrase"] != own)
        assert prompt["negative"] != bool(prompt["query_mask"].any())
        assert prompt["valid_mask"].all()
        assert prompt["phrase"] in prompt["text_prompt"]


def test_negatives_are_uniform_over_the_other_phrases_whatever_their_frequency():
    counts_by_task: dict[int, Counter] = {task: Counter() for task in (0, 6, 9)}
    for task, _, prompt in training_prompts(negative_prob=1):
        if task in counts_by_task:
            counts_by_task[task][prompt["phrase"]] += 1
    for task, counts in counts_by_task.items():
        own = SOURCE.phrases[SOURCE.phrase(task)]
        assert set(counts) == {"a", "b", "c", "d"} - {own}
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3


def test_support_of_a_negative_shows_its_phrase():
    tasks = {"a": {0, 1, 2, 3, 4, 5}, "b": {6, 7}, "c": {8}, "d": {9}}
    seen = set()
    for task, sample, prompt in training_prompts(negative_prob=1):
        (support,) = support_tasks(sample)  # exists for c and d, too: the query has another phrase
        assert support in tasks[prompt["phrase"]] and support != task
        seen.add(support)
    assert seen == set(range(10))


def test_negative_keeps_its_query_image():
    for task, sample, _ in training_prompts(negative_prob=1):
        assert (sample["query_image"] == task).all()


def test_no_negatives_without_other_phrases():
    for _, _, prompt in training_prompts(InMemoryPhrases("a a a"), negative_prob=1):
        assert not prompt["negative"] and prompt["query_mask"].any()


def test_crop_does_not_depend_on_negative_prob():
    with_, without = (prompted(SOURCE, negative_prob=p) for p in (0.5, 0.0))
    masks = [
        (plain["query_mask"], other["query_mask"])
        for epoch in range(40)
        for ((other,), (plain,)) in [
            (with_[epoch, 0]["prompts"], without[epoch, 0]["prompts"]),
        ]
        if not other["negative"]
    ]
    assert masks and all(bool((a == b).all()) for a, b in masks)


class TestAbsentPhraseInEvaluation:
    """Every evaluation sample has a second prompt with a phrase that is absent from the photo."""

    source = InMemoryPhrases("a b a c d e b f", per_photo=2)

    def test_absent_phrase_is_not_annotated_on_the_photo(self):
        for seed in range(40):
            dataset = prompted(self.source, train=False, seed=seed)
            for task in range(len(self.source)):
                own, absent = dataset[0, task]["prompts"]
                present = {
                    self.source.phrases[i] for i in self.source.possible_phrases(task).tolist()
                }
                assert own["phrase"] == self.source.phrases[self.source.phrase(task)]
                assert not own["negative"] and own["query_mask"].any()
                assert absent["phrase"] not in present
                assert absent["negative"] and not absent["query_mask"].any()
                assert absent["prompt_id"] != own["prompt_id"]

    @pytest.mark.parametrize("task", [0, 3, 4, 7])
    def test_absent_phrase_is_uniform_over_all_absent_phrases(self, task):
        counts = Counter(
            prompted(self.source, train=False, seed=seed)[0, task]["prompts"][1]["phrase"]
            for seed in range(800)
        )
        present = {self.source.phrases[i] for i in self.source.possible_phrases(task).tolist()}
        assert set(counts) == set("abcdef") - present
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3

    def test_no_absent_prompt_if_all_phrases_are_present(self):
        dataset = prompted(InMemoryPhrases("a b a b", per_photo=2), train=False)
        assert [len(dataset[0, task]["prompts"]) for task in range(4)] == [1] * 4

    def test_prompt_ids_are_unique(self):
        dataset = prompted(self.source, train=False)
        ids = [prompt["prompt_id"] for task in range(8) for prompt in dataset[0, task]["prompts"]]
        assert len(set(ids)) == len(ids) == 16 and np.all([name.strip() for name in ids])


def test_absent_negatives_are_phrases_absent_from_the_photo():
    source = InMemoryPhrases("a a a b c d", per_photo=5)  # one photo with a, b, c; one with d
    seen: dict[int, Counter] = {task: Counter() for task in range(len(source))}
    for task, _, prompt in training_prompts(source, negative_prob=0.5, absent_negatives=True):
        seen[task][prompt["phrase"]] += prompt["negative"]
    assert all(+seen[task] == {"d": seen[task]["d"]} and seen[task]["d"] for task in range(5))
    assert set(+seen[5]) == {"a", "b", "c"}
    assert stats.chisquare([seen[5][name] for name in "abc"]).pvalue > 1e-3


def test_no_absent_negatives_if_all_phrases_are_present():
    source = InMemoryPhrases("a b c", per_photo=3)
    prompts = training_prompts(source, negative_prob=1.0, absent_negatives=True)
    assert not any(prompt["negative"] for _, _, prompt in prompts)
