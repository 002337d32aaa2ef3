"""Excluding phrases about held-out classes or words from training."""

import numpy as np
import pytest

from datamodules.datasets.class_words import WholeWords
from datamodules.datasets.exclusion import AFFORDANCE_WORDS, Exclusion
from datamodules.datasets.phrase_table import Strings
from datamodules.phrasecut import PhraseCutDataModule
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.phrasecut import phrasecut_request
from tests.datasets.numbered import InMemoryPhrases, prompted, support_tasks

NO_BIKE = WholeWords(["bike"])


class LongPhrases(InMemoryPhrases):
    """Tasks whose phrases can have several words."""

    def __init__(self, phrases: list[str], per_photo: int = 1) -> None:
        super().__init__(" ".join(phrase.replace(" ", "_") for phrase in phrases), per_photo)
        self.phrases = Strings.pack([phrase.replace("_", " ") for phrase in self.phrases])


PHRASES = ["red bike", "Bike left of the dog", "biker", "dog", "dining table", "table", "dog"]


def test_without_lone_phrases_removes_phrases_of_a_single_task():
    kept = LongPhrases(PHRASES).without_lone_phrases()
    assert [kept.name(task) for task in range(len(kept))] == ["task 3", "task 6"]


def test_remaining_tasks_keep_photo_name_and_phrase():
    kept = LongPhrases(PHRASES).without(NO_BIKE)
    assert [kept.phrases[kept.phrase(task)] for task in range(len(kept))] == PHRASES[2:]
    assert [kept.name(task) for task in range(5)] == [f"task {k}" for k in (2, 3, 4, 5, 6)]
    assert [int(kept.image(task)[0, 0, 0]) for task in range(5)] == [2, 3, 4, 5, 6]
    assert kept.mask(0).any() and len(kept.phrases) == 4
    dog = kept.phrase(1)
    assert kept.tasks_of_phrase(dog).tolist() == [1, 4]


def test_phrases_of_a_photo_are_the_remaining_ones():
    kept = LongPhrases(["bike", "dog", "cat", "bike", "sheep", "dog"], 3).without(NO_BIKE)
    names = [kept.phrases[row] for row in kept.possible_phrases(0)]
    assert names == ["dog", "cat"]
    assert [kept.phrases[row] for row in kept.possible_phrases(3)] == ["sheep", "dog"]
    assert kept.tasks_of_image(0).tolist() == [0, 1] and kept.tasks_of_image(3).tolist() == [2, 3]


def test_samples_and_negatives_contain_no_excluded_word():
    words = list(np.random.default_rng(0).permutation(["bike", "dog", "cat", "sheep"] * 5))
    kept = InMemoryPhrases(" ".join(words)).without(NO_BIKE)
    samples = prompted(kept, negative_prob=0.5)
    for epoch in range(8):
        for task in range(len(samples)):
            sample = samples[epoch, task]
            assert "bike" not in sample["prompts"][0]["phrase"]
            assert all(words[support] != "bike" for support in support_tasks(sample))


def test_unknown_held_out_sets_and_rules_raise():
    with pytest.raises(
        ValueError, match=r"exclusion\.held_out must be one of fold_0, .*, not 'fold_4'"
    ):
        Exclusion("fold_4")
    with pytest.raises(
        ValueError, match=r"exclusion\.rule must be one of mended, paper, not 'ours'"
    ):
        Exclusion("fold_0", "ours")


def test_datamodule_lists_excluded_names():
    def excluded(*exclusion):
        return PhraseCutDataModule("nowhere", exclusion=Exclusion(*exclusion)).excluded

    assert PhraseCutDataModule("nowhere").excluded == []
    assert excluded("fold_1", "paper") == ["bus", "car", "cat", "chair", "cow"]
    assert excluded("unseen_4") == ["cow", "motorbike", "aeroplane", "sofa"]
    assert excluded("affordances") == list(AFFORDANCE_WORDS)


@pytest.mark.parametrize(("rule", "plants"), [("paper", True), ("mended", False)])
def test_fold_is_excluded_from_training_but_not_from_evaluation(tmp_path, rule, plants):
    scenes = {"train": 150, "val": 3, "test": 1, "miniv": 1}
    build_folders(tmp_path, phrasecut_request(scenes, 7, (72, 96)), progress=False)
    whole = PhraseCutDataModule(str(tmp_path), image_size=32)
    part = PhraseCutDataModule(str(tmp_path), image_size=32, exclusion=Exclusion("fold_3", rule))
    for data in (whole, part):
        data.setup("fit")
    source = part.datasets["train"].source
    phrases = " ".join(source.phrases[row] for row in range(len(source.phrases))).split()
    assert not {"sheep", "sofa", "couch", "train", "tv", "television"} & set(phrases)
    assert ("plant" in phrases) == plants and "car" in phrases
    reasons = part.skipped["train"]
    assert reasons["with held-out words"] == (len(whole.datasets["train"]) - len(source))
    assert part.sizes()["val"] == whole.sizes()["val"]
