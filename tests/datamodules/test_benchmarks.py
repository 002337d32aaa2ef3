"""Datamodules of the benchmarks, on the toy world and on real data."""

import pytest
import torch

from clipseg_pl.sample import collate
from datamodules.coco_20i import COCO20iDataModule
from datamodules.datasets.episodes import SUPPORT_PIXELS
from datamodules.datasets.exclusion import Exclusion
from datamodules.datasets.labelled import open_voc
from datamodules.datasets.pascal_5i import ZERO_SHOT_CLASSES, fold_classes
from datamodules.lvis_names import LVISNamesDataModule
from datamodules.lvis_prompts import LVISPromptsDataModule
from datamodules.pascal_5i import Pascal5iDataModule
from datamodules.pascal_zero_shot import PascalZeroShotDataModule

SIZE = {"image_size": 64, "batch_size": 4, "num_workers": 0}


def samples(data, count=4):
    data.setup("validate")
    dataset = data.datasets["val"]
    return [dataset[0, number] for number in range(min(count, len(dataset)))]


@pytest.mark.parametrize("fold", range(4))
def test_pascal_5i_uses_classes_of_the_fold_with_supports(miniature, fold):
    data = Pascal5iDataModule(str(miniature), **SIZE, fold=fold, shots=2)
    batch = collate(samples(data))
    names = [data.classes.names[c] for c in batch["class_id"].tolist()]
    assert set(names) <= set(fold_classes(fold)) == set(data.held_out)
    assert batch["text_prompt"] == [f"a photo of a {name}." for name in names]
    assert torch.bincount(batch["prompt_index"]).tolist() == [2] * len(names)
    assert (batch["target_size"] == 320).all()  # the long side of the photos
    assert batch["query_mask"].flatten(1).any(1).all()


def test_pascal_5i_uses_every_photo_with_enough_pixels(miniature):
    data = Pascal5iDataModule(str(miniature), **SIZE, fold=2)
    data.setup("validate")
    photos = open_voc(miniature, augmented=True)
    listed = (miniature / "lists/pfenet/val.txt").read_text().split("\n")
    names = [line.split("/")[1].split(".")[0] for line in listed if line]
    labels = range(11, 16)
    expected = [
        n for n in names if any((photos.labels(n) == k).sum() >= SUPPORT_PIXELS for k in labels)
    ]
    assert [episode.query for episode in data.datasets["val"].episodes] == expected
    assert data.sizes() == {"val": len(expected)}


def test_hsnet_pascal_5i_has_1000_square_samples(miniature):
    data = Pascal5iDataModule(str(miniature), **SIZE, episodes="hsnet")
    batch = collate(samples(data))
    assert data.sizes() == {"val": 1000} and (batch["target_size"] == 64).all()


def test_coco_20i_trains_on_60_classes_and_evaluates_the_other_20(miniature):
    data = COCO20iDataModule(str(miniature), **SIZE, fold=1)
    data.setup("fit")
    trained = set(data.datasets["train"].source.phrases)
    evaluated = {data.classes.names[e.class_id] for e in data.datasets["val"].episodes}
    assert evaluated <= set(data.excluded) and not trained & set(data.excluded)
    assert data.sizes()["val"] == 1000 and len(data.excluded) == 20
    batch = collate(samples(data))
    assert set(batch["text_prompt"]) <= evaluated and len(batch["prompt_index"]) == 4


def test_zero_shot_has_21_prompts_per_photo(miniature):
    data = PascalZeroShotDataModule(str(miniature), **SIZE, unseen=4)
    batch = collate(samples(data))
    assert data.sizes() == {"val": 40} and len(batch["query_image"]) == 4
    assert batch["text_prompt"] == list(ZERO_SHOT_CLASSES) * 4
    assert batch["class_id"].tolist() == list(range(21)) * 4
    masks = batch["query_mask"].view(4, 21, 64, 64).sum(1)
    valid = batch["valid_mask"].view(4, 21, 64, 64)[:, 0]
    assert torch.equal(masks, valid.long())  # each valid pixel belongs to one class
    assert {data.classes.names[c] for c in data.classes.unseen} == {
        *("cow", "motorbike", "airplane", "sofa"),
    }


def test_generalised_prompts_fit_the_category(miniature):
    data = LVISPromptsDataModule(str(miniature), **SIZE)
    loaded = samples(data, 40)
    lvis = data.datasets["val"].lvis
    phrases = {
        lvis.names[pair.category]: [prompt["phrase"] for prompt in sample["prompts"]]
        for pair, sample in zip(data.datasets["val"].pairs, loaded, strict=False)
    }
    assert phrases["motorcycle"] == ["ride on", "has wheels"]
    assert phrases["chair"] == ["sit on", "has legs"] and phrases["bird"] == ["can fly", "has legs"]
    assert "train (railroad vehicle)" not in phrases
    assert all(prompt["query_mask"].any() for sample in loaded for prompt in sample["prompts"])


def test_lvis_names_are_phrases_of_large_objects(miniature):
    exclusion = Exclusion("fold_0")
    data = LVISNamesDataModule(str(miniature), **SIZE, exclusion=exclusion)
    data.setup("fit")
    source = data.datasets["val"].source
    names = {source.phrases[source.phrase(task)] for task in range(len(source))}
    assert "bus (vehicle)" in names and "bird" in names
    trained = data.datasets["train"].source.phrases
    assert "bird" not in list(trained) and data.excluded == list(fold_classes(0))
    for task in range(0, len(source), 7):
        share = source.mask(task).mean()
        assert share > 0.03 and abs(share - source.lvis.area(source.pairs[task])) < 0.02
        assert task in source.tasks_of_phrase(source.phrase(task))
        same_photo = [
            k for k, pair in enumerate(source.pairs) if pair.image == source.pairs[task].image
        ]
        assert source.tasks_of_image(task).tolist() == same_photo and task in same_photo
        present = {source.phrases[row] for row in source.possible_phrases(task)}
        annotated = source.lvis.categories(source.pairs[task].image)  # including small objects
        names = {source.lvis.names[category] for category in annotated}
        assert present == names & set(source.phrases)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pascal5iDataModule(fold=4), "fold must be 0 to 3, not 4"),
        (lambda: COCO20iDataModule(fold=-1), "fold must be 0 to 3, not -1"),
        (lambda: PascalZeroShotDataModule(unseen=5), "must be one of 2, 4, 6, 8, 10, not 5"),
        (lambda: Pascal5iDataModule(shots=0), "shots must be >= 1, not 0"),
    ],
)
def test_invalid_benchmark_settings_raise(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_predict_on_benchmarks_without_whole_photos_raises(miniature):
    for kind in (Pascal5iDataModule, LVISPromptsDataModule):
        with pytest.raises(ValueError, match="predict needs whole photos"):
            kind(str(miniature), **SIZE).setup("predict")


def test_training_on_evaluation_benchmarks_raises(miniature):
    for kind in (Pascal5iDataModule, PascalZeroShotDataModule, LVISPromptsDataModule):
        with pytest.raises(ValueError, match="for evaluation only: train"):
            kind(str(miniature), **SIZE).setup("fit")


def test_real_episodes_follow_the_2048_pixel_rule(real_data):
    root = real_data / "voc2012_mini"
    photos = open_voc(root, augmented=True)
    names = [line.split("/")[1].split(".")[0] for line in (root / "lists/pfenet/val.txt").open()]
    for fold in range(4):
        data = Pascal5iDataModule(str(root), **SIZE, fold=fold)
        data.setup("validate")
        labels = range(5 * fold + 1, 5 * fold + 6)
        expected = [
            name
            for name in names
            if any((photos.labels(name) == label).sum() >= SUPPORT_PIXELS for label in labels)
        ]
        queries = [episode.query for episode in data.datasets["val"].episodes]
        assert set(queries) <= set(expected)
        assert len(expected) - len(queries) == sum(data.skipped["val"].values())
        assert collate(samples(data))["query_mask"].flatten(1).any(1).all()
