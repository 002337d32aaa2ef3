"""Data loaders of `BaseDataModule`, on PhraseCut."""

from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer

from clipseg_pl.sample import has_support
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.prompted import Prompting
from datamodules.phrasecut import PhraseCutDataModule


def make(root, **settings):
    return PhraseCutDataModule(
        str(root), **{"image_size": 32, "batch_size": 5, "num_workers": 0, **settings}
    )


def trainer(steps=12, done=0, rank=0, world_size=1, accumulate=1):
    """Return a stand-in for Trainer, with only the attributes that a datamodule uses."""
    return SimpleNamespace(
        max_steps=steps,
        max_epochs=-1,
        global_step=done,
        global_rank=rank,
        world_size=world_size,
        accumulate_grad_batches=accumulate,
    )


def training_batches(root, attached=None, **settings):
    data = make(root, **settings)
    data.setup("fit")
    data.trainer = attached or trainer()
    return list(data.train_dataloader())


def assert_equal(first, second):
    assert len(first) == len(second)
    for ours, theirs in zip(first, second, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            same = torch.equal(value, theirs[key]) if torch.is_tensor(value) else None
            assert same or value == theirs[key], key


def test_training_batches_have_the_documented_shapes(miniature):
    batches = training_batches(miniature)
    assert len(batches) == 12 and {len(batch["phrase"]) for batch in batches} == {5}
    seen = [name for batch in batches for name in batch["prompt_id"]]
    assert len({name.removesuffix("__absent") for name in seen[:36]}) == 36
    for batch in batches:
        assert batch["query_image"].shape == (5, 3, 32, 32)
        assert batch["query_index"].tolist() == [0, 1, 2, 3, 4]
        alone = ~has_support(batch)
        assert (batch["mix_weight"][alone] == 1).all()


def test_batches_do_not_depend_on_workers(miniature):
    assert_equal(training_batches(miniature), training_batches(miniature, num_workers=2))


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_batches_of_one_rank(miniature, world_size):
    whole = training_batches(miniature, batch_size=2 * world_size)
    ranks = [
        training_batches(miniature, trainer(rank=rank, world_size=world_size), batch_size=2)
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        parts = [batches[step] for batches in ranks]
        assert torch.equal(batch["query_image"], torch.cat([p["query_image"] for p in parts]))
        assert torch.equal(batch["visual_prompt"], torch.cat([p["visual_prompt"] for p in parts]))
        assert batch["text_prompt"] == [text for part in parts for text in part["text_prompt"]]


def test_resumed_training_sees_the_remaining_samples(miniature):
    whole = training_batches(miniature)
    assert_equal(whole[7:], training_batches(miniature, trainer(done=7)))
    # with three accumulated batches per step, step 4 starts at batch 12
    whole = training_batches(miniature, trainer(steps=6, accumulate=3))
    assert len(whole) == 18
    resumed = training_batches(miniature, trainer(steps=6, done=4, accumulate=3))
    assert_equal(whole[12:], resumed)


def test_training_without_an_end_raises(miniature):
    with pytest.raises(ValueError, match=r"no end: set --trainer.max_steps or --trainer.max_epo"):
        training_batches(miniature, trainer(steps=-1))


@pytest.mark.parametrize(
    ("limits", "accumulate", "steps", "suffix"),
    [
        ({"max_epochs": 3}, 1, 22, ""),  # ceil(3 * 36 / 5)
        ({"max_epochs": 3}, 2, 11, ""),  # ceil(3 * 36 / 10)
        ({"max_epochs": 3, "max_steps": 30}, 1, 22, ""),
        ({"max_epochs": 3, "max_steps": 7}, 1, 7, ", limited by max_steps"),
        ({"max_steps": 7}, 1, 7, None),
    ],
)
def test_epochs_are_passes_over_the_data(miniature, caplog, limits, accumulate, steps, suffix):
    """The miniature has 36 training samples; a batch has 5."""
    data = make(miniature)
    data.trainer = Trainer(
        accelerator="cpu", logger=False, accumulate_grad_batches=accumulate, **limits
    )
    with caplog.at_level("INFO"):
        data.setup("fit")
        data.setup("fit")
    assert len(data.train_dataloader().batch_sampler) == steps * accumulate
    samples = 5 * accumulate
    line = f"3 epochs of 36 samples: {steps} steps of {samples} samples{suffix}"
    said = [record.message for record in caplog.records if " epochs of " in record.message]
    assert said == ([] if suffix is None else [line])


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_sees_every_task_once_with_an_absent_phrase(miniature, workers):
    data = make(miniature, num_workers=workers)
    data.setup("test")
    batches = list(data.test_dataloader())
    assert [len(batch["query_image"]) for batch in batches] == [5, 5, 5]
    assert [len(batch["phrase"]) for batch in batches] == [10, 10, 10]
    assert batches[0]["query_index"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    names = [name for batch in batches for name in batch["prompt_id"]]
    assert len(set(names)) == 30 and data.sizes() == {"test": 15}


def test_evaluation_on_two_ranks_uses_the_same_batches(miniature):
    single = make(miniature, batch_size=4)
    single.setup("validate")
    batches, per_rank = list(single.val_dataloader()), []
    for rank in range(2):
        data = make(miniature, batch_size=4)
        data.setup("validate")
        data.trainer = trainer(rank=rank, world_size=2)
        per_rank.append(list(data.val_dataloader()))
    assert_equal(batches[0::2], per_rank[0])
    assert_equal(batches[1::2], per_rank[1])


@pytest.mark.parametrize(
    ("stage", "splits"),
    [
        ("fit", {"train": 36, "val": 15}),
        ("validate", {"val": 15}),
        ("test", {"test": 15}),
        ("predict", {"test": 15}),
    ],
)
def test_setup_builds_only_the_splits_of_the_stage(miniature, stage, splits):
    data = make(miniature)
    data.setup(stage)
    assert data.sizes() == splits


def test_settings_reach_the_datasets(miniature):
    prompting = Prompting(negative_prob=0, supports=False)
    data = make(miniature, val_split="miniv", rasterizer="pil", prompting=prompting, seed=3)
    data.setup("fit")
    assert data.sizes() == {"train": 36, "miniv": 6}
    train, val = data.datasets["train"], data.datasets["val"]
    assert (train.source.rasterizer, val.source.rasterizer) == ("coco", "pil")
    assert (train.train, val.train, train.seed) == (True, False, 3)
    data.trainer = trainer()
    batch = next(iter(data.train_dataloader()))
    assert not batch["negative"].any() and len(batch["visual_prompt"]) == 0


def test_prepare_data_raises_if_the_dataset_is_missing(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="VGPhraseCut_v0: found nothing"):
        make(tmp_path).prepare_data()


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"image_size": 0}])
def test_zero_sizes_raise(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        make("anywhere", **settings)
