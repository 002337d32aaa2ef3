"""Phrases that name a class are left out of training, and nothing else is."""

import numpy as np
import pytest

from datamodules.datasets.exclusion import WithoutWords
from tests.datasets.numbered import Numbered, prompted, shown


class Phrased(Numbered):
    """Numbered tasks whose phrases may have several words."""

    def __init__(self, phrases: list[str], per_photo: int = 1) -> None:
        super().__init__(" ".join(phrase.replace(" ", "_") for phrase in phrases), per_photo)
        self.phrases = [phrase.replace("_", " ") for phrase in self.phrases]


PHRASES = ["red bike", "Bike left of the dog", "biker", "dog", "dining table", "table", "dog"]


def left(words: list[str]) -> list[str]:
    kept = WithoutWords(Phrased(PHRASES), words)
    return [kept.phrases[kept.phrase(task)] for task in range(len(kept))]


def test_whole_words_count_in_either_case():
    assert left(["bike"]) == ["biker", "dog", "dining table", "table", "dog"]
    assert left(["dining  table"]) == [p for p in PHRASES if p != "dining table"]
    assert left(["table", "biker"]) == ["red bike", "Bike left of the dog", "dog", "dog"]
    assert left([]) == PHRASES


def test_tasks_keep_their_photo_name_and_phrase():
    kept = WithoutWords(Phrased(PHRASES), ["bike"])
    assert [kept.name(task) for task in range(5)] == [f"task {k}" for k in (2, 3, 4, 5, 6)]
    assert [int(kept.image(task)[0, 0, 0]) for task in range(5)] == [2, 3, 4, 5, 6]
    assert kept.mask(0).any() and len(kept.phrases) == 4
    dog = kept.phrase(1)
    assert kept.tasks_of_phrase(dog).tolist() == [1, 4]


def test_phrases_of_a_photo_are_those_left():
    kept = WithoutWords(Phrased(["bike", "dog", "cat", "bike", "sheep", "dog"], 3), ["bike"])
    names = [kept.phrases[row] for row in kept.phrases_of_image(0)]
    assert names == ["dog", "cat"]
    assert [kept.phrases[row] for row in kept.phrases_of_image(3)] == ["sheep", "dog"]


def test_samples_hold_no_excluded_word_negatives_included():
    words = list(np.random.default_rng(0).permutation(["bike", "dog", "cat", "sheep"] * 5))
    kept = WithoutWords(Numbered(" ".join(words)), ["bike"])
    samples = prompted(kept, negative_prob=0.5)
    for epoch in range(8):
        for task in range(len(samples)):
            sample = samples[epoch, task]
            assert "bike" not in sample["prompts"][0]["phrase"]
            assert all(words[shown_task] != "bike" for shown_task in shown(sample))


def test_blank_words_and_nothing_left_are_refused():
    with pytest.raises(ValueError, match="blank"):
        WithoutWords(Numbered("dog cat"), ["dog", " "])
    with pytest.raises(ValueError, match="none of 2 tasks"):
        WithoutWords(Numbered("dog cat"), ["dog", "cat"])
