"""Several phrases of a photo on one encoding of it."""

import numpy as np
import pytest

from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.transforms import PairedResize, Square
from datamodules.phrasecut import PhraseCutDataModule
from tests.datasets.numbered import UNTOUCHED, Numbered


def company(source, at_most, **settings):
    prompting = Prompting(visual_prompt=UNTOUCHED, **settings)
    return PromptedDataset(source, prompting, 12, True, 0, phrases_per_image=at_most)


def ids(sample):
    return [prompt["prompt_id"] for prompt in sample["prompts"]]


def test_other_tasks_about_the_photo_come_along_each_once():
    dataset = company(Numbered("a b c d e f g", per_photo=4), 3, negative_prob=0.0)
    seen = set()
    for epoch in range(30):
        found = ids(dataset[epoch, 1])
        assert found[0] == "task 1" and len(set(found)) == len(found) == 3
        seen.update(found)
        assert set(ids(dataset[epoch, 5])) == {"task 4", "task 5", "task 6"}
    assert seen == {"task 0", "task 1", "task 2", "task 3"}


def test_each_has_its_own_support_and_may_become_a_negative():
    dataset = company(Numbered("a b a b a b", per_photo=2), 2, negative_prob=0.5)
    prompts = [p for epoch in range(50) for p in dataset[epoch, 0]["prompts"]]
    negatives = sum(prompt["negative"] for prompt in prompts)
    assert len(prompts) == 100 and 30 < negatives < 70
    for prompt in prompts:
        assert prompt["query_mask"].any() != prompt["negative"] and len(prompt["supports"]) == 1
        phrase = int(prompt["supports"][0][0, 0, 0]) % 2  # photos of a are even, of b odd
        assert prompt["phrase"] == "ab"[phrase]


class Wide(Numbered):
    """Photos three squares wide; the thing of task k lies in the k-th."""

    def image(self, task):
        return np.zeros((12, 36, 3), np.uint8)

    def mask(self, task):
        mask = np.zeros((12, 36), bool)
        mask[:, 12 * task : 12 * task + 12] = True
        return mask


def test_what_the_crop_does_not_show_stays_behind():
    dataset = company(Wide("a b c", per_photo=3), 3, supports=False, negative_prob=0.0)
    found = [dataset[epoch, 0] for epoch in range(60)]
    assert {frozenset(ids(s)) for s in found} == {
        frozenset({"task 0"}),
        frozenset({"task 0", "task 1"}),
    }
    for sample in found:
        if len(sample["prompts"]) == 2:  # together they fill the crop
            left, right = (prompt["query_mask"] for prompt in sample["prompts"])
            assert (left ^ right).all() and left[..., 0].all()


def test_alone_a_task_is_drawn_as_ever(miniature):
    source, prompting = PhraseCut(miniature, "train"), Prompting()
    alone = PromptedDataset(source, prompting, 48, True, 0)
    accompanied = PromptedDataset(source, prompting, 48, True, 0, phrases_per_image=3)
    for task in range(len(source)):
        first, same = alone[0, task], accompanied[0, task]
        assert (first["query_image"] == same["query_image"]).all()
        assert first["prompts"][0]["text_prompt"] == same["prompts"][0]["text_prompt"]
        assert len(first["prompts"]) == 1


def test_further_masks_are_resized_as_the_first():
    mask = np.random.default_rng(0).random((37, 53)) < 0.5
    resize = PairedResize(24)
    image = np.zeros((37, 53, 3), np.uint8)
    for crop in (None, Square(0, 9, 37)):
        assert (resize(image, mask, crop)[1] == resize.mask(mask, crop)).all()


def test_the_datamodule_passes_it_on(miniature):
    data = PhraseCutDataModule(str(miniature), 48, 4, 0, phrases_per_image=3)
    data.setup("fit")
    assert max(len(data.datasets["train"][0, task]["prompts"]) for task in range(36)) == 3
    assert len(data.datasets["val"][0, 0]["prompts"]) <= 2
    with pytest.raises(ValueError, match="phrases_per_image is at least 1, not 0"):
        PhraseCutDataModule(phrases_per_image=0)
