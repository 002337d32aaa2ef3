"""Properties of all datamodules: empty datasets raise, and loaders work without a Trainer."""

import json
import pickle
import shutil

import pytest
import torch

from datamodules.coco_20i import COCO20iDataModule
from datamodules.datasets.exclusion import Exclusion
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.prompted import Prompting
from datamodules.image_folder import ImageFolderDataModule, Table
from datamodules.lvis_names import LVISNamesDataModule
from datamodules.lvis_prompts import LVISPromptsDataModule
from datamodules.pascal_5i import Pascal5iDataModule
from datamodules.pascal_zero_shot import PascalZeroShotDataModule
from datamodules.photos import PhotosDataModule
from datamodules.phrasecut import PhraseCutDataModule
from tests.datasets.own import write_photos

SIZE = {"image_size": 32, "batch_size": 4, "num_workers": 0}
HSNET = {"episodes": "hsnet"}
TRAINED = (PhraseCutDataModule, LVISNamesDataModule, COCO20iDataModule)
EVALUATED = (Pascal5iDataModule, PascalZeroShotDataModule, LVISPromptsDataModule)
PARTNERS_ONLY = Prompting(lone_phrases=False, text_weight_max=0.0, negative_prob=0.5)


def lvis_without_annotations(root):
    for split in ("train", "val"):
        file = root / "LVIS" / f"lvis_v1_{split}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))


def empty_lists(root):
    """Empty every list of samples, but keep the files."""
    for file in root.glob("lists/**/*.txt"):
        file.write_text("")
    (root / "VOC2012/ImageSets/Segmentation/val.txt").write_text("")
    for file in root.glob("splits/coco/**/*.pkl"):
        file.write_bytes(pickle.dumps({}))
    lvis_without_annotations(root)
    for file in (root / "VGPhraseCut_v0").glob("refer_*.json"):
        file.write_text("[]")


@pytest.fixture(scope="module")
def emptied(miniature, tmp_path_factory):
    """The miniature dataset with empty lists; tests must not write to it."""
    root = tmp_path_factory.mktemp("emptied") / "root"
    shutil.copytree(miniature, root, ignore=shutil.ignore_patterns("train*2017", "own"))
    for split in ("train2017", "val2017"):
        (root / "LVIS" / split).mkdir(exist_ok=True)
    empty_lists(root)
    return root


@pytest.mark.parametrize("stage", ["validate", "test"])
@pytest.mark.parametrize(
    ("kind", "settings", "listed"),
    [
        (Pascal5iDataModule, {}, "val split .*pfenet/val.txt lists 0 photos$"),
        (Pascal5iDataModule, HSNET, "val split .*/fold0.txt lists 0 photos$"),
        (COCO20iDataModule, {}, "val split .*val/fold0.pkl lists 0 photos$"),
        (PascalZeroShotDataModule, {}, "val split .*Segmentation/val.txt lists 0 photos"),
        (LVISPromptsDataModule, {}, "val split .*lvis_v1_val.json lists 40 photos and 0 masks"),
        (LVISNamesDataModule, {}, "val split .*lvis_v1_val.json lists 40 photos and 0 masks"),
    ],
)
def test_empty_evaluation_split_raises_and_names_the_list(emptied, kind, settings, listed, stage):
    with pytest.raises(ValueError, match=f"nothing to evaluate: the {listed}") as error:
        kind(str(emptied), **SIZE, **settings).setup(stage)
    assert f"in {emptied} has no usable samples" in str(error.value)


def test_empty_phrasecut_split_raises(emptied):
    for split, stage in (("val", "validate"), ("test", "test"), ("test", "predict")):
        with pytest.raises(ValueError, match=rf"refer_{split}\.json: no usable task among 0"):
            PhraseCutDataModule(str(emptied), **SIZE).setup(stage)


def test_error_counts_unusable_episodes(miniature, emptied, tmp_path):
    shutil.copytree(emptied / "lists", tmp_path / "lists")
    (tmp_path / "VOC2012").symlink_to(miniature / "VOC2012")
    lone = (miniature / "lists/hsnet/pascal/val/fold0.txt").read_text().splitlines()[0]
    (tmp_path / "lists/hsnet/pascal/val/fold0.txt").write_text(lone)
    with pytest.raises(ValueError, match=r"lists 1 photos; skipped: 1 classes with no second ph"):
        Pascal5iDataModule(str(tmp_path), **SIZE, **HSNET).setup("validate")


@pytest.mark.parametrize(
    ("kind", "settings", "listed"),
    [
        (COCO20iDataModule, {}, "trn split .*trn/fold0.pkl lists 0 photos"),
        (LVISNamesDataModule, {}, "train split .*lvis_v1_train.json lists 40 photos and 0 masks"),
        (
            LVISNamesDataModule,
            {"exclusion": Exclusion("affordances"), "prompting": PARTNERS_ONLY},
            "train split .*_train.json lists 40 photos and 0 masks; skipped: 0 with held-out words",
        ),
    ],
)
def test_empty_training_split_raises(emptied, kind, settings, listed):
    with pytest.raises(ValueError, match=f"nothing to train on: the {listed}"):
        kind(str(emptied), **SIZE, **settings).setup("fit")


def test_training_split_without_remaining_phrases_raises(tmp_path):
    write_photos(tmp_path, [["dog"], ["cat"], ["tree"]])
    data = own(tmp_path, prompting=PARTNERS_ONLY)
    with pytest.raises(ValueError, match=r"csv has 2 tasks .* skipped: 2 whose phrases have no p"):
        data.setup("fit")


def test_rank_without_samples_gets_an_empty_batch(miniature):
    data = PascalZeroShotDataModule(str(miniature), **{**SIZE, "batch_size": 64})
    data.setup("validate")
    data.trainer = type("Trainer", (), {"global_rank": 1, "world_size": 2})()
    (batch,) = data.val_dataloader()
    assert len(batch["query_image"]) == 0


# ---- options of prompting; partners are tasks (a phrase about a photo) with the same phrase


@pytest.fixture(scope="module")
def with_lone_phrases(miniature, tmp_path_factory):
    """The miniature dataset, except that the list of one class of COCO-20i has a single photo."""
    root = tmp_path_factory.mktemp("lone")
    for folder in ("VGPhraseCut_v0", "COCO2014", "LVIS"):
        (root / folder).symlink_to(miniature / folder)
    shutil.copytree(miniature / "splits", root / "splits")
    file = root / "splits/coco/trn/fold0.pkl"
    listed = pickle.loads(file.read_bytes())
    first = next(class_id for class_id, names in listed.items() if names)
    file.write_bytes(pickle.dumps({**listed, first: listed[first][:1]}))
    return root


@pytest.mark.parametrize("kind", TRAINED)
def test_phrases_without_partner_can_be_excluded(with_lone_phrases, kind):
    every, paired = (
        kind(str(with_lone_phrases), **SIZE, prompting=prompting)
        for prompting in (Prompting(negative_prob=0.0), PARTNERS_ONLY)
    )
    for data in (every, paired):
        data.setup("fit")
    train = paired.datasets["train"]
    skipped = paired.skipped[paired.split_name("train")]["whose phrases have no partner"]
    assert len(every.datasets["train"]) - len(train) == skipped
    assert kind is PhraseCutDataModule or skipped
    for epoch in range(2):
        for task in range(len(train)):
            (prompt,) = train[epoch, task]["prompts"]
            assert prompt["supports"] and prompt["mix_weight"] == 0
    assert len(every.datasets["val"]) == len(paired.datasets["val"])


def test_coco_20i_evaluation_uses_the_evaluation_form(miniature):
    prompting = Prompting(evaluation_form="a photo of a {}.")
    data = COCO20iDataModule(str(miniature), **SIZE, prompting=prompting)
    data.setup("validate")
    (prompt,) = data.datasets["val"][0, 0]["prompts"]
    name = data.classes.names[prompt["class_id"]]
    assert prompt["text_prompt"] == f"a photo of a {name}."


# ---- loaders


def own(root, **settings):
    return ImageFolderDataModule(str(root), **SIZE, train=Table("phrases.csv"), **settings)


@pytest.mark.parametrize("kind", [*TRAINED, ImageFolderDataModule])
def test_loaders_work_without_a_trainer(miniature, tmp_path, kind):
    if kind is ImageFolderDataModule:
        write_photos(tmp_path, [["dog", "cat"]] * 10)
    data = own(tmp_path) if kind is ImageFolderDataModule else kind(str(miniature), **SIZE)
    data.setup("fit")
    loader = data.train_dataloader()
    size = len(data.datasets["train"])
    assert len(loader) == -(-size // 4)  # one epoch
    batch = next(iter(loader))
    assert batch["query_image"].shape == (4, 3, 32, 32)
    again = next(iter(data.train_dataloader()))
    assert torch.equal(batch["query_image"], again["query_image"])
    assert len(next(iter(data.val_dataloader()))["query_image"])
    data.setup("test")
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        assert len(next(iter(loader))["query_image"])


@pytest.mark.parametrize("kind", EVALUATED)
def test_benchmark_loaders_work_without_a_trainer(miniature, kind):
    data = kind(str(miniature), **SIZE)
    data.setup("validate")
    assert len(next(iter(data.val_dataloader()))["query_image"]) == 4
    data.setup("test")
    assert len(next(iter(data.test_dataloader()))["query_image"]) == 4


def test_photo_loader_works_without_a_trainer(tmp_path):
    write_photos(tmp_path, [["dog"]] * 3)
    data = PhotosDataModule([str(tmp_path / "images")], ["a dog"], **SIZE)
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch["query_image"].shape[:2] == (3, 3) and batch["phrase"] == ["a dog"] * 3


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        ("train_dataloader", r'the train split is not set up: call setup\("fit"\) before'),
        ("val_dataloader", r'the miniv split is not set up: call setup\("validate"\) before'),
        ("test_dataloader", r'the test split is not set up: call setup\("test"\) before'),
        ("predict_dataloader", r'the test split is not set up: call setup\("test"\) before'),
    ],
)
def test_loaders_before_setup_raise(miniature, loader, message):
    with pytest.raises(RuntimeError, match=message):
        getattr(PhraseCutDataModule(str(miniature), **SIZE, val_split="miniv"), loader)()
    data = PhotosDataModule([str(miniature / "own" / "images")], ["a dog"], **SIZE)
    with pytest.raises(RuntimeError, match="is not set up"):
        getattr(data, loader)()


def test_missing_dataset_raises(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="found nothing"):
        PascalZeroShotDataModule(str(tmp_path), **SIZE).setup("validate")
