"""Your own photos as training and evaluation data, by datamodule and by command."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.sample import collate
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.prompted import Prompting
from datamodules.image_folder import ImageFolderDataModule, Table
from tests.command import EXPERIMENTS, arguments, results, run
from tests.datasets.numbered import UNTOUCHED
from tests.datasets.own import write_photos

SIZE = {"image_size": 16, "batch_size": 4, "num_workers": 0}
OVERLAY = (EXPERIMENTS / "data" / "image_folder.yaml",)
PHRASES = [["dog", "red cat"], ["Dog"], ["dog "], ["cat"], ["cat", "tree"], ["lone"]]
PHRASES += [["dog"]] * 4


def build(root, stage="fit", table="phrases.csv", **settings):
    data = ImageFolderDataModule(str(root), **SIZE, train=Table(table), **settings)
    data.setup(stage)
    return data


def photos(data, split):
    """Names of the photos of a split."""
    source = data.datasets[split].source
    return {source.name(task).rpartition("__")[0] for task in range(len(source))}


# ---- training and validation photos


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.99])
def test_validation_photos_are_not_trained_on(tmp_path, share):
    write_photos(tmp_path, PHRASES)
    data = build(tmp_path, val_share=share)
    train, val = photos(data, "train"), photos(data, "val")
    assert not train & val and len(train | val) == 10
    assert len(val) == min(max(round(share * 10), 1), 9)
    assert data.sizes()["train"] + data.sizes()["val"] == sum(map(len, PHRASES))


def test_the_split_depends_on_photo_names_only(tmp_path):
    write_photos(tmp_path / "a", PHRASES)
    write_photos(tmp_path / "b", [*PHRASES[:9], ["other"]])
    validated = [
        photos(build(tmp_path / folder, seed=seed, val_share=0.3), "val")
        for folder, seed in (("a", 0), ("a", 7), ("b", 0))
    ]
    assert validated[0] == validated[1] == validated[2]
    files = [f"images/{number}.png" for number in range(10)]
    ranked = sorted(files, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert validated[0] == {name.replace("/", "_")[:-4] for name in ranked[:3]}
    write_photos(tmp_path / "a", [*PHRASES, *[["dog"]] * 10])  # ten more photos
    more = photos(build(tmp_path / "a", val_share=0.3), "val")
    assert len(more) == 6 and len(validated[0] & more) >= 1


def test_splits_can_have_their_own_tables(tmp_path):
    write_photos(tmp_path / "one", PHRASES)
    write_photos(tmp_path / "two", [["dog"], ["dog", "cat"]], grey=100)
    write_photos(tmp_path / "three", [["dog"]], grey=200)
    tables = {"val": Table("two/phrases.csv"), "test": Table("three/phrases.csv")}
    data = build(tmp_path, table="one/phrases.csv", **tables)
    data.setup("test")
    assert data.sizes() == {"train": 12, "val": 3, "test": 1}
    data = build(tmp_path, table="nowhere.csv", val=tables["val"], stage="test")
    assert data.sizes() == {"test": 3}  # without its own table, `test` uses that of `val`


def test_classes_are_those_of_the_evaluated_split(tmp_path):
    write_photos(tmp_path / "one", PHRASES)
    write_photos(tmp_path / "two", [["cat", "dog"]], grey=100)
    write_photos(tmp_path / "three", [["dog", "zebra"]], grey=200)
    data = build(
        tmp_path,
        table="one/phrases.csv",
        val=Table("two/phrases.csv"),
        test=Table("three/phrases.csv"),
    )
    for stage, split in (
        ("validate", "val"),
        ("test", "test"),
        ("fit", "val"),
        ("validate", "val"),
    ):
        data.setup(stage)
        for prompt in data.datasets[split][0, 0]["prompts"]:
            assert data.classes.names[prompt["class_id"]] == prompt["phrase"]


def test_photo_and_mask_folders_can_be_set(tmp_path):
    write_photos(tmp_path / "one", PHRASES)
    shutil.move(tmp_path / "one" / "images", tmp_path / "photos" / "images")
    shutil.move(tmp_path / "one" / "masks", tmp_path / "truth" / "masks")
    table = Table("one/phrases.csv", images="photos", masks=str(tmp_path / "truth"))
    data = ImageFolderDataModule(str(tmp_path), **SIZE, train=table)
    data.setup("fit")
    assert data.datasets["train"][0, 0]["prompts"][0]["query_mask"].any()


def test_photos_in_both_tables_raise(tmp_path):
    write_photos(tmp_path, PHRASES)
    write_photos(tmp_path, [["dog"], ["cat"]], name="val.csv")
    with pytest.raises(ValueError, match=r"2 photos are used for both .*/0.png and .*/0.png are"):
        build(tmp_path, val=Table("val.csv"))


def test_splitting_a_single_photo_raises(tmp_path):
    write_photos(tmp_path, [["dog", "cat"]])
    with pytest.raises(ValueError, match=r"one photo has usable rows; .* --data.init_args.val.tab"):
        build(tmp_path)
    write_photos(tmp_path, [["dog", "cat"], [" "]])
    with pytest.raises(ValueError, match=r"has usable rows \(skipped: 1 without a phrase\); add"):
        build(tmp_path)


# ---- prompts


def test_supports_have_the_same_phrase_and_split(tmp_path):
    write_photos(tmp_path, PHRASES)
    prompting = Prompting(negative_prob=0, visual_prompt=UNTOUCHED)
    data = build(tmp_path, prompting=prompting, val_share=0.3)
    for split in ("train", "val"):
        dataset = data.datasets[split]
        source = dataset.source
        greys = [int(source.image(task)[0, 0, 0]) for task in range(len(source))]
        words = [source.phrases[source.phrase(task)] for task in range(len(source))]
        for task in range(len(source)):
            partners = {g for g, w in zip(greys, words, strict=True) if w == words[task]}
            prompt = dataset[0, task]["prompts"][0]
            shown = {int(support[0, 0, 0]) for support in prompt["supports"]}
            assert shown <= partners - {greys[task]} and bool(shown) == (len(partners) > 1)
            assert prompt["mix_weight"] == 1 or shown


def test_negatives_are_absent_from_the_photo(tmp_path):
    write_photos(tmp_path, [["dog", "cat", "tree"], ["dog"], ["cat"], ["tree"]] * 3)
    data = build(tmp_path)
    dataset, negatives = data.datasets["train"], 0
    for epoch in range(30):
        for task in range(len(dataset)):
            (prompt,) = dataset[epoch, task]["prompts"]
            of_photo = dataset.source.possible_phrases(task)
            assert prompt["negative"] != bool(prompt["query_mask"].any())
            if prompt["negative"]:
                assert prompt["phrase"] not in {dataset.source.phrases[row] for row in of_photo}
                negatives += 1
    assert negatives > 30


def test_evaluation_samples_have_a_present_and_an_absent_phrase(tmp_path):
    write_photos(tmp_path, PHRASES)
    data = build(tmp_path, stage="validate", val_share=0.5)
    batch = collate([data.datasets["val"][0, task] for task in range(data.sizes()["val"])])
    assert batch["negative"].tolist() == [False, True] * data.sizes()["val"]
    names = data.classes.names
    assert [names[index] for index in batch["class_id"].tolist()] == batch["phrase"]
    assert len(set(batch["prompt_id"])) == len(batch["phrase"])
    assert torch.equal(batch["query_mask"].flatten(1).any(1), ~batch["negative"])


def test_lone_phrases_can_be_excluded(tmp_path):
    write_photos(tmp_path, PHRASES)
    prompting = Prompting(lone_phrases=False)
    every, paired = build(tmp_path), build(tmp_path, prompting=prompting)
    lone = every.sizes()["train"] - paired.sizes()["train"]
    assert paired.skipped == {"train": {"whose phrases have no partner": lone}} and lone >= 2
    assert every.sizes()["val"] == paired.sizes()["val"]


def test_pickled_dataset_makes_the_same_samples(tmp_path):
    write_photos(tmp_path, PHRASES)
    dataset = build(tmp_path).datasets["train"]
    copy = pickle.loads(pickle.dumps(dataset))
    for task in range(len(dataset)):
        assert torch.equal(dataset[0, task]["query_image"], copy[0, task]["query_image"])


def test_large_table_is_loaded_into_few_python_objects(tmp_path):
    """Forked workers share arrays, but copy Python objects when they count references to them."""
    rows = 20_000
    write_photos(tmp_path, [["dog"]] * 4)
    lines = (tmp_path / "phrases.csv").read_text().splitlines()
    many = [f"images/{k % 4}.png,masks/square.png,phrase {k}" for k in range(rows)]
    (tmp_path / "phrases.csv").write_text("\n".join([lines[0], *many]))
    dataset = build(tmp_path).datasets["train"]
    assert len(pickle.dumps(dataset)) < 200 * rows
    count, pending = 0, [dataset.source]
    while pending:  # objects reachable through attributes and containers
        item = pending.pop()
        count += 1
        if isinstance(item, (list, tuple)):
            pending += item
        elif isinstance(item, dict):
            pending += item.values()
        elif hasattr(item, "__dict__") and type(item).__module__.startswith("datamodules"):
            pending += vars(item).values()
    assert count < 100


# ---- by command


def test_toy_world_includes_a_custom_dataset(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr("datamodules.toy.world.scaled", lambda scenes: {"own": {"all": 5}})
    data = ImageFolderDataModule("toy", **SIZE)
    data.prepare_data()
    assert photos(data, "train") and len(photos(data, "val")) == 1


@pytest.mark.parametrize(
    "table",
    [
        "phrases.csv",
        pytest.param("classes.jsonl", marks=pytest.mark.slow),
        pytest.param("coco.json", marks=pytest.mark.slow),
    ],
)
def test_fit_from_a_decoder_then_validate_and_predict(miniature, decoder_file, tmp_path, table):
    data = (f"--data.init_args.train.table=own/{table}", "--data.init_args.val_share=0.2")
    start = (f"--model.init_decoder={decoder_file}", "--model.optimizer.init_args.lr=1e-9")
    more = (*data, *start, "--model.min_lr=1e-9", "--trainer.max_steps=1")
    run(*arguments("fit", miniature, tmp_path, *more, configs=OVERLAY))
    trained = results(tmp_path)
    assert trained["metrics"]["val/text/prompts"] == trained["dataset_sizes"]["val"] > 4
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    before = torch.load(decoder_file)
    after = torch.load(checkpoint, weights_only=True)["state_dict"]
    for key, weight in before.items():
        assert torch.allclose(after[f"model.decoder.{key}"], weight, atol=1e-6)
    for command in ("validate", "predict"):
        again = (*data, f"--ckpt_path={checkpoint}")
        run(*arguments(command, miniature, tmp_path, *again, configs=OVERLAY))
        if command == "validate":
            metrics = results(tmp_path)["metrics"]
            assert metrics["val/text/miou@best"] == trained["metrics"]["val/text/miou@best"]
    masks = list((tmp_path / "predictions").rglob("*.png"))
    assert len(masks) == trained["dataset_sizes"]["val"]
    assert {Image.open(file).size for file in masks} == {(160, 120)}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train.table=nothing.csv", "nothing.csv: no such table; set --data.init_args.train.table"),
        ("train.table=own/images/0001.jpg", "a table must end in .csv, .jsonl or .json"),
        ("val.table=own/nothing.json", "own/nothing.json: no such table"),
        ("val_share=0", "val_share must be above 0 and below 1"),
        ("val_share=1", "val_share must be above 0 and below 1"),
        ("phrases_per_image=0", "phrases_per_image must be >= 1"),
        ("train.tabel=x", "Did you mean"),
        ("val.images=own", "images or masks are set without a table"),
    ],
)
def test_invalid_options_give_one_error_line(miniature, tmp_path, capsys, option, message):
    with pytest.raises(SystemExit) as stopped:
        more = f"--data.init_args.{option}"
        run(*arguments("fit", miniature, tmp_path / "new", more, configs=OVERLAY))
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code in (1, 2) and message in line and line.startswith("clipseg_pl: ")
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_skipped_rows_are_in_the_results(miniature, tmp_path):
    shutil.copytree(miniature / "own", tmp_path / "own")
    table = tmp_path / "own" / "phrases.csv"
    empty = tmp_path / "own" / "masks" / "empty.png"
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(empty)
    table.write_text(table.read_text() + "images/0001.jpg,masks/empty.png,dog\n")
    run(*arguments("fit", tmp_path, tmp_path / "run", "--trainer.max_steps=1", configs=OVERLAY))
    skipped = results(tmp_path / "run")["dataset_skipped"]
    assert skipped == {"own/phrases.csv": {"with an empty mask": 1}}
    assert json.loads((tmp_path / "own" / "toy_world.json").read_text())  # still intact


def test_missing_table_raises(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"--data.init_args.train.table"):
        build(tmp_path)
