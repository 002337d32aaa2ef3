"""Training samples with several phrases about one photo (`phrases_per_image`)."""

import numpy as np
import pytest

from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.transforms import PairedResize, Square
from datamodules.phrasecut import PhraseCutDataModule
from tests.datasets.numbered import UNTOUCHED, InMemoryPhrases


def build(source, phrases_per_image, **settings):
    prompting = Prompting(visual_prompt=UNTOUCHED, **settings)
    return PromptedDataset(source, prompting, 12, True, 0, phrases_per_image=phrases_per_image)


def ids(sample):
    return [prompt["prompt_id"] for prompt in sample["prompts"]]


def test_other_tasks_about_the_photo_are_added_once_each():
    dataset = build(InMemoryPhrases("a b c d e f g", per_photo=4), 3, negative_prob=0.0)
    seen = set()
    for epoch in range(30):
        found = ids(dataset[epoch, 1])
        assert found[0] == "task 1" and len(set(found)) == len(found) == 3
        seen.update(found)
        assert set(ids(dataset[epoch, 5])) == {"task 4", "task 5", "task 6"}
    assert seen == {"task 0", "task 1", "task 2", "task 3"}


def test_each_prompt_has_its_own_support_and_can_be_a_negative():
    dataset = build(InMemoryPhrases("a b a b a b", per_photo=2), 2, negative_prob=0.5)
    prompts = [p for epoch in range(50) for p in dataset[epoch, 0]["prompts"]]
    negatives = sum(prompt["negative"] for prompt in prompts)
    assert len(prompts) == 100 and 30 < negatives < 70
    for prompt in prompts:
        assert prompt["query_mask"].any() != prompt["negative"] and len(prompt["supports"]) == 1
        phrase = int(prompt["supports"][0][0, 0, 0]) % 2  # colours are even for a, odd for b
        assert prompt["phrase"] == "ab"[phrase]


class WidePhotos(InMemoryPhrases):
    """Photos three squares wide; the object of task k fills the k-th square."""

    def image(self, task):
        return np.zeros((12, 36, 3), np.uint8)

    def mask(self, task):
        mask = np.zeros((12, 36), bool)
        mask[:, 12 * task : 12 * task + 12] = True
        return mask


def test_objects_outside_the_crop_are_not_added():
    dataset = build(WidePhotos("a b c", per_photo=3), 3, supports=False, negative_prob=0.0)
    samples = [dataset[epoch, 0] for epoch in range(60)]
    assert {frozenset(ids(sample)) for sample in samples} == {
        frozenset({"task 0"}),
        frozenset({"task 0", "task 1"}),
    }
    for sample in samples:
        if len(sample["prompts"]) == 2:  # the two objects together fill the crop
            left, right = (prompt["query_mask"] for prompt in sample["prompts"])
            assert (left ^ right).all() and left[..., 0].all()


def test_first_prompt_does_not_depend_on_phrases_per_image(miniature):
    source, prompting = PhraseCut(miniature, "train"), Prompting()
    single = PromptedDataset(source, prompting, 48, True, 0)
    several = PromptedDataset(source, prompting, 48, True, 0, phrases_per_image=3)
    for task in range(len(source)):
        first, same = single[0, task], several[0, task]
        assert (first["query_image"] == same["query_image"]).all()
        assert first["prompts"][0]["text_prompt"] == same["prompts"][0]["text_prompt"]
        assert len(first["prompts"]) == 1


def test_added_masks_are_resized_like_the_first():
    mask = np.random.default_rng(0).random((37, 53)) < 0.5
    resize = PairedResize(24)
    image = np.zeros((37, 53, 3), np.uint8)
    for crop in (None, Square(0, 9, 37)):
        assert (resize(image, mask, crop)[1] == resize.mask(mask, crop)).all()


def test_datamodule_uses_phrases_per_image_in_training_only(miniature):
    data = PhraseCutDataModule(str(miniature), 48, 4, 0, phrases_per_image=3)
    data.setup("fit")
    assert max(len(data.datasets["train"][0, task]["prompts"]) for task in range(36)) == 3
    assert len(data.datasets["val"][0, 0]["prompts"]) <= 2
    with pytest.raises(ValueError, match="phrases_per_image must be >= 1, not 0"):
        PhraseCutDataModule(phrases_per_image=0)
