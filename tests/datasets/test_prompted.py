"""Training and evaluation samples of `PromptedDataset`."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.transforms import rasterise
from tests.datasets.numbered import UNTOUCHED, InMemoryPhrases, prompted
from tests.miniature import COLOURS, SIZE

KEYS = [(epoch, task) for epoch in (0, 3) for task in (0, 7, 20, 35)]
PLAIN = Prompting(visual_prompt=UNTOUCHED)


@pytest.fixture
def build(miniature):
    def build(split="train", train=True, seed=0, prompting=PLAIN, size=48):
        return PromptedDataset(PhraseCut(miniature, split), prompting, size, train, seed)

    return build


def flat(sample):
    """Return the contents of a sample as a list that can be compared."""
    plain = [sample["query_image"].tolist(), sample["query_size"]]
    for prompt in sample["prompts"]:
        plain += [
            value.tolist() if isinstance(value, torch.Tensor) else value
            for key, value in prompt.items()
            if key != "supports"
        ]
        plain += [support.tolist() for support in prompt["supports"]]
    return plain


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_samples_depend_on_seed_epoch_and_index_only(build, workers):
    dataset = build(prompting=Prompting())
    expected = [flat(dataset[key]) for key in KEYS]
    np.random.seed(1)
    torch.manual_seed(1)
    batches = [KEYS[4:6], KEYS[:3], KEYS[3:4], KEYS[6:]]
    loader = DataLoader(
        build(prompting=Prompting()), batch_sampler=batches, num_workers=workers, collate_fn=list
    )
    seen = {key: sample for batch, samples in zip(batches, loader, strict=True)
            for key, sample in zip(batch, samples, strict=True)}  # fmt: skip
    assert [flat(seen[key]) for key in KEYS] == expected


@pytest.mark.slow
def test_spawned_workers_make_the_same_samples(build):
    dataset = build()
    loader = DataLoader(
        dataset,
        batch_sampler=[KEYS],
        num_workers=1,
        collate_fn=list,
        multiprocessing_context="spawn",
    )
    (samples,) = loader
    assert [flat(sample) for sample in samples] == [flat(dataset[key]) for key in KEYS]


def test_samples_differ_between_epochs_and_seeds(build):
    first, second, other = build(), build(), build(seed=1)
    tasks = range(len(first))
    base = [flat(first[0, task]) for task in tasks]
    for dataset, epoch in ((second, 1), (other, 0), (other, 1)):
        assert sum(flat(dataset[epoch, task]) != base[task] for task in tasks) >= 30


def test_tasks_of_an_epoch_have_independent_random_values():
    dataset = prompted(InMemoryPhrases("a " * 30), negative_prob=0.0)
    assert len({dataset[0, task]["prompts"][0]["mix_weight"] for task in range(30)}) == 30


def test_evaluation_does_not_vary_over_epochs(build):
    dataset = build("val", train=False)
    for task in range(len(dataset)):
        assert flat(dataset[0, task]) == flat(dataset[5, task])


def test_samples_have_the_documented_shapes_and_types(build):
    for dataset in (build(prompting=Prompting()), build("val", False, prompting=Prompting())):
        for task in range(len(dataset)):
            sample = dataset[0, task]
            assert sample["query_image"].shape == (3, 48, 48)
            assert sample["query_image"].dtype == torch.uint8
            assert sample["query_size"] == SIZE
            for prompt in sample["prompts"]:
                for mask in (prompt["query_mask"], prompt["valid_mask"]):
                    assert mask.shape == (1, 48, 48) and mask.dtype == torch.bool
                assert all(s.shape == (3, 48, 48) for s in prompt["supports"])
                assert 0 <= prompt["mix_weight"] <= 1 and prompt["class_id"] == -1


def test_evaluation_squashes_the_whole_photo(build):
    dataset = build("val", train=False, size=SIZE[0] * 2)
    source = dataset.source
    for task in range(len(dataset)):
        polygons = [p * (120 / SIZE[1], 120 / SIZE[0]) for p in source.index.polygons(task)]
        expected = rasterise(polygons, 120, 120)
        mask = dataset[0, task]["prompts"][0]["query_mask"][0].numpy()
        assert (mask & expected).sum() / (mask | expected).sum() > 0.93


def coloured(image, name):
    """Return the mask of pixels close to `name`, one of the colours of the miniature dataset."""
    colour = torch.tensor(COLOURS[name])[:, None, None]
    return (image.int() - colour).abs().sum(0) < 150


@pytest.mark.parametrize("train", [True, False])
def test_masks_match_the_coloured_objects(build, train):
    dataset = build("train", train, prompting=Prompting(negative_prob=0, visual_prompt=UNTOUCHED))
    ious = []
    for task in range(len(dataset)):
        row = dataset.source.index.task_image[task]
        if dataset.source.index.image_id[row] % 7 == 0:  # a grey photo
            continue
        for epoch in range(3):
            sample = dataset[epoch, task]
            prompt = sample["prompts"][0]
            # no other object in the photo has this colour
            pixels = coloured(sample["query_image"], prompt["phrase"].split()[0])
            mask = prompt["query_mask"][0]
            ious.append(float((pixels & mask).sum() / (pixels | mask).sum()))
    assert len(ious) >= 80 and np.mean(ious) > 0.93 and min(ious) > 0.8


def test_supports_are_cropped_around_another_object_of_the_phrase(build):
    dataset = build(prompting=Prompting(negative_prob=0))
    matching = 0
    for task in range(len(dataset)):
        (prompt,) = dataset[0, task]["prompts"]
        for support in prompt["supports"]:
            centre = support[:, 20:28, 20:28]
            matching += int(coloured(centre, prompt["phrase"].split()[0]).float().mean() > 0.9)
    with_support = sum(len(dataset[0, task]["prompts"][0]["supports"]) for task in range(36))
    assert with_support > 25 and matching > 0.8 * with_support  # grey photos have no colours


def test_evaluation_uses_the_evaluation_form(build):
    dataset = build("val", train=False, prompting=Prompting(evaluation_form="a photo of {}."))
    (own, *_) = dataset[0, 0]["prompts"]
    assert own["text_prompt"] == f"a photo of {own['phrase']}."
    with pytest.raises(ValueError, match=r"evaluation_form must contain \{\} exactly once, not"):
        Prompting(evaluation_form="a photo")
