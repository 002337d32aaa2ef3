"""Samples of photos without annotations, of classes with several phrasings, of ignored pixels."""

from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from datamodules.datasets.prompted import PromptedDataset, Prompting
from tests.datasets.numbered import UNTOUCHED, InMemoryPhrases, prompted, support_tasks


class WithUnannotatedPhotos(InMemoryPhrases):
    """The last `unannotated` tasks are photos without annotations."""

    def __init__(self, phrases: str, unannotated: int) -> None:
        super().__init__(phrases)
        number = len(self._phrase)
        phrase = np.append(self._phrase, np.full(unannotated, -1))
        self.rows = np.arange(number + unannotated)
        self._group(self.phrases, phrase, self.rows)
        self.number = number

    def read_mask(self, row: int) -> np.ndarray:
        return super().read_mask(row) & (row < self.number)


SOURCE = WithUnannotatedPhotos("a b c a b", 2)


def test_training_prompts_of_a_photo_without_annotations_are_negatives():
    seen = Counter()
    dataset = prompted(SOURCE, absent_negatives=True)
    for epoch in range(300):
        sample = dataset[epoch, 6]
        (prompt,) = sample["prompts"]
        assert prompt["negative"] and not prompt["query_mask"].any()
        assert (sample["query_image"] == 6).all()
        assert prompt["prompt_id"] == f"task 6__{prompt['phrase']}__absent"
        assert prompt["phrase"] in prompt["text_prompt"]
        (support,) = support_tasks(sample)
        assert support in {"a": (0, 3), "b": (1, 4), "c": (2,)}[prompt["phrase"]]
        seen[prompt["phrase"]] += 1
    assert set(seen) == set("abc") and stats.chisquare(list(seen.values())).pvalue > 1e-3


def test_crops_of_a_photo_without_annotations_are_random():
    class Gradient(WithUnannotatedPhotos):
        def read_image(self, row):
            columns = np.arange(16, dtype=np.uint8)
            return np.broadcast_to(columns[None, :, None], (12, 16, 3)).copy()

    dataset = prompted(Gradient("a b", 1))
    lefts = {int(dataset[epoch, 2]["query_image"][0, 0, 0]) for epoch in range(60)}
    assert lefts == {0, 1, 2, 3, 4}  # squares of 12 x 12 pixels in a photo of 12 x 16


def test_evaluation_prompts_a_photo_without_annotations_with_all_phrases():
    dataset = prompted(SOURCE, train=False)
    assert len(dataset) == 7
    prompts = dataset[0, 5]["prompts"]
    assert [prompt["phrase"] for prompt in prompts] == ["a", "b", "c"]
    assert all(prompt["negative"] and not prompt["query_mask"].any() for prompt in prompts)
    assert [prompt["prompt_id"] for prompt in prompts] == [f"task 5__{p}__absent" for p in "abc"]


def test_evaluation_prompts_with_ten_absent_phrases_at_most():
    source = WithUnannotatedPhotos(" ".join(f"p{number}" for number in range(30)), 2)
    first, again = (prompted(source, train=False)[0, 30]["prompts"] for _ in range(2))
    other = prompted(source, train=False)[0, 31]["prompts"]
    names, same, different = ([p["phrase"] for p in part] for part in (first, again, other))
    assert len(set(names)) == 10 and names == same and names != different


def test_other_samples_do_not_depend_on_photos_without_annotations():
    plain, more = InMemoryPhrases("a b c a b"), SOURCE
    for train in (True, False):
        for task in range(5):
            one, two = (prompted(s, train, absent_negatives=True)[3, task] for s in (plain, more))
            assert torch.equal(one["query_image"], two["query_image"])
            for first, second in zip(one["prompts"], two["prompts"], strict=True):
                assert first["text_prompt"] == second["text_prompt"]
                assert first["mix_weight"] == second["mix_weight"]
                assert torch.equal(first["query_mask"], second["query_mask"])


def test_selections_keep_photos_without_annotations():
    source = WithUnannotatedPhotos("a b c a", 2)
    paired = source.without_lone_phrases()
    assert paired.rows.tolist() == [0, 3, 4, 5] and paired.without_annotations().tolist() == [2, 3]
    kept = source.without(lambda phrase: phrase == "a")
    assert kept.rows.tolist() == [1, 2, 4, 5]
    assert [kept.phrase(task) for task in range(4)] == [0, 1, -1, -1]
    assert kept.phrase_ids.tolist() == [1, 2]


def test_photos_without_annotations_and_absent_phrases_are_dropped():
    class Guarded(WithUnannotatedPhotos):
        def possible_phrases(self, task):
            known = int(self.rows[task]) == 6
            return super().possible_phrases(task) if known else np.arange(len(self.phrases))

    dataset = prompted(Guarded("a b c a b", 2), train=False)
    assert dataset.source.rows.tolist() == [0, 1, 2, 3, 4, 6]
    assert list(dataset.skipped.values()) == [1]


class Rephrased(InMemoryPhrases):
    """Phrase "a" has three phrasings."""

    def phrasings(self, phrase: int) -> tuple[str, ...]:
        words = self.phrases[phrase]
        return ("a", "an a", "the a") if words == "a" else (words,)


def test_training_samples_phrasings_uniformly():
    dataset = prompted(Rephrased("a a b b"), negative_prob=0.0)
    counts = Counter(dataset[epoch, 0]["prompts"][0]["phrase"] for epoch in range(600))
    assert set(counts) == {"a", "an a", "the a"}
    assert stats.chisquare(list(counts.values())).pvalue > 1e-3
    prompt = dataset[0, 0]["prompts"][0]
    assert prompt["phrase"] in prompt["text_prompt"]
    negatives = prompted(Rephrased("a a b b"), negative_prob=1.0)
    shown = {negatives[epoch, 2]["prompts"][0]["phrase"] for epoch in range(60)}
    assert shown == {"a", "an a", "the a"}


def test_phrases_with_one_phrasing_draw_nothing_more():
    plain, more = (prompted(s("b a b a")) for s in (InMemoryPhrases, Rephrased))
    for epoch in range(20):
        (one,), (two,) = plain[epoch, 0]["prompts"], more[epoch, 0]["prompts"]
        if one["phrase"] == "b":
            assert one["text_prompt"] == two["text_prompt"]
            assert one["mix_weight"] == two["mix_weight"]


@pytest.mark.parametrize("all_phrasings", [False, True])
def test_evaluation_uses_the_first_phrasing_or_all(all_phrasings):
    source, prompting = Rephrased("a b"), Prompting(visual_prompt=UNTOUCHED)
    dataset = PromptedDataset(
        source, prompting, 8, False, 0, all_phrasings=all_phrasings, class_ids=True
    )
    prompts = [prompt for task in range(2) for prompt in dataset[0, task]["prompts"]]
    found = [(p["prompt_id"], p["phrase"], p["negative"], p["class_id"]) for p in prompts]
    if not all_phrasings:
        assert found == [
            ("task 0", "a", False, 0),
            ("task 0__absent", "b", True, 1),
            ("task 1", "b", False, 1),
            ("task 1__absent", "a", True, 0),
        ]
        return
    assert found == [
        ("task 0", "a", False, 0),
        ("task 0__2", "an a", False, 0),
        ("task 0__3", "the a", False, 0),
        ("task 0__absent", "b", True, 1),
        ("task 1", "b", False, 1),
        ("task 1__absent", "a", True, 0),
        ("task 1__absent__2", "an a", True, 0),
        ("task 1__absent__3", "the a", True, 0),
    ]
    assert [p["text_prompt"] for p in prompts] == [p["phrase"] for p in prompts]


@pytest.mark.parametrize("train", [False, True])
def test_ignored_pixels_are_cropped_and_resized_like_the_mask(train):
    class Ignoring(InMemoryPhrases):
        def read_valid(self, row: int) -> np.ndarray | None:
            return ~self.read_mask(row) if row == 0 else None

    dataset = prompted(Ignoring("a b"), train=train, negative_prob=0.0)
    ignoring, plain = (dataset[0, task]["prompts"] for task in (0, 1))
    target = ignoring[0]["query_mask"]
    assert target.any() and not target.all()
    assert all(torch.equal(prompt["valid_mask"], ~target) for prompt in ignoring)
    assert all(prompt["valid_mask"].all() for prompt in plain)
