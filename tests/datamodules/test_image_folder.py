"""Photos of one's own as training and validation data, by datamodule and by command."""

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


# ---- parts


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.99])
def test_a_share_of_the_photos_is_validated_and_never_trained(tmp_path, share):
    write_photos(tmp_path, PHRASES)
    data = build(tmp_path, val_share=share)
    train, val = photos(data, "train"), photos(data, "val")
    assert not train & val and len(train | val) == 10
    assert len(val) == min(max(round(share * 10), 1), 9)
    assert data.sizes()["train"] + data.sizes()["val"] == sum(map(len, PHRASES))


def test_the_parts_depend_on_the_names_of_the_photos_alone(tmp_path):
    write_photos(tmp_path / "a", PHRASES)
    write_photos(tmp_path / "b", [*PHRASES[:9], ["other"]])
    parts = [
        photos(build(tmp_path / folder, seed=seed, val_share=0.3), "val")
        for folder, seed in (("a", 0), ("a", 7), ("b", 0))
    ]
    assert parts[0] == parts[1] == parts[2]
    files = [f"images/{number}.png" for number in range(10)]
    ranked = sorted(files, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert parts[0] == {name.replace("/", "_")[:-4] for name in ranked[:3]}
    write_photos(tmp_path / "a", [*PHRASES, *[["dog"]] * 10])  # ten photos more
    more = photos(build(tmp_path / "a", val_share=0.3), "val")
    assert len(more) == 6 and len(parts[0] & more) >= 1


def test_the_parts_may_have_tables_of_their_own(tmp_path):
    write_photos(tmp_path / "one", PHRASES)
    write_photos(tmp_path / "two", [["dog"], ["dog", "cat"]])
    write_photos(tmp_path / "three", [["dog"]])
    tables = {"val": Table("two/phrases.csv"), "test": Table("three/phrases.csv")}
    data = build(tmp_path, table="one/phrases.csv", **tables)
    data.setup("test")
    assert data.sizes() == {"train": 12, "val": 3, "test": 1}
    data = build(tmp_path, table="nowhere.csv", val=tables["val"], stage="test")
    assert data.sizes() == {"test": 3}  # without a table of its own, what is validated


def test_folders_of_photos_and_masks_may_lie_elsewhere(tmp_path):
    write_photos(tmp_path / "one", PHRASES)
    shutil.move(tmp_path / "one" / "images", tmp_path / "photos" / "images")
    shutil.move(tmp_path / "one" / "masks", tmp_path / "truth" / "masks")
    given = Table("one/phrases.csv", images="photos", masks=str(tmp_path / "truth"))
    data = ImageFolderDataModule(str(tmp_path), **SIZE, train=given)
    data.setup("fit")
    assert data.datasets["train"][0, 0]["prompts"][0]["query_mask"].any()


def test_photos_in_both_tables_are_refused(tmp_path):
    write_photos(tmp_path, PHRASES)
    write_photos(tmp_path, [["dog"], ["cat"]], name="val.csv")
    with pytest.raises(ValueError, match=r"val.csv: 2 of its photos are in .*phrases.csv as well"):
        build(tmp_path, val=Table("val.csv"))


def test_one_photo_cannot_be_parted(tmp_path):
    write_photos(tmp_path, [["dog", "cat"]])
    with pytest.raises(ValueError, match=r"photo with usable rows; .* --data.init_args.val.tab"):
        build(tmp_path)
    write_photos(tmp_path, [["dog", "cat"], [" "]])
    with pytest.raises(ValueError, match=r"with usable rows \(skipped 1 without a phrase\); add"):
        build(tmp_path)


# ---- prompts


def test_supports_come_from_tasks_of_equal_words_in_the_same_part(tmp_path):
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
    dataset, drawn = data.datasets["train"], 0
    for epoch in range(30):
        for task in range(len(dataset)):
            (prompt,) = dataset[epoch, task]["prompts"]
            of_photo = dataset.source.possible_phrases(task)
            assert prompt["negative"] != bool(prompt["query_mask"].any())
            if prompt["negative"]:
                assert prompt["phrase"] not in {dataset.source.phrases[row] for row in of_photo}
                drawn += 1
    assert drawn > 30


def test_evaluation_asks_for_what_is_there_and_for_one_thing_that_is_not(tmp_path):
    write_photos(tmp_path, PHRASES)
    data = build(tmp_path, stage="validate", val_share=0.5)
    batch = collate([data.datasets["val"][0, task] for task in range(data.sizes()["val"])])
    assert batch["negative"].tolist() == [False, True] * data.sizes()["val"]
    assert (batch["class_id"] == -1).all() and len(set(batch["prompt_id"])) == len(batch["phrase"])
    assert torch.equal(batch["query_mask"].flatten(1).any(1), ~batch["negative"])


def test_lone_phrases_may_be_left_out(tmp_path):
    write_photos(tmp_path, PHRASES)
    prompting = Prompting(lone_phrases=False)
    every, some = build(tmp_path), build(tmp_path, prompting=prompting)
    lone = every.sizes()["train"] - some.sizes()["train"]
    assert some.skipped == {"train": {"whose phrases have no partner": lone}} and lone >= 2
    assert every.sizes()["val"] == some.sizes()["val"]


def test_spawned_workers_make_the_same_samples(tmp_path):
    write_photos(tmp_path, PHRASES)
    dataset = build(tmp_path).datasets["train"]
    copy = pickle.loads(pickle.dumps(dataset))
    for task in range(len(dataset)):
        assert torch.equal(dataset[0, task]["query_image"], copy[0, task]["query_image"])


def test_a_large_table_is_a_few_arrays(tmp_path):
    """Forked workers share arrays; objects they would copy, one by one, as they are counted."""
    rows = 20_000
    write_photos(tmp_path, [["dog"]] * 4)
    lines = (tmp_path / "phrases.csv").read_text().splitlines()
    many = [f"images/{k % 4}.png,masks/square.png,phrase {k}" for k in range(rows)]
    (tmp_path / "phrases.csv").write_text("\n".join([lines[0], *many]))
    dataset = build(tmp_path).datasets["train"]
    assert len(pickle.dumps(dataset)) < 200 * rows
    found, todo = 0, [dataset.source]
    while todo:  # objects reachable through attributes and containers
        thing = todo.pop()
        found += 1
        if isinstance(thing, (list, tuple)):
            todo += thing
        elif isinstance(thing, dict):
            todo += thing.values()
        elif hasattr(thing, "__dict__") and type(thing).__module__.startswith("datamodules"):
            todo += vars(thing).values()
    assert found < 100


# ---- by command


def test_root_toy_has_own_photos(monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    monkeypatch.setattr("datamodules.toy.world.SCENES", {"own": {"all": 5}})
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
def test_training_starts_from_a_decoder_and_is_validated_and_predicted(
    miniature, decoder_file, tmp_path, table
):
    given = (f"--data.init_args.train.table=own/{table}", "--data.init_args.val_share=0.2")
    start = (f"--model.init_decoder={decoder_file}", "--model.optimizer.init_args.lr=1e-9")
    more = (*given, *start, "--model.min_lr=1e-9", "--trainer.max_steps=1")
    run(*arguments("fit", miniature, tmp_path, *more, configs=OVERLAY))
    trained = results(tmp_path)
    assert trained["metrics"]["val/text/prompts"] == trained["dataset_sizes"]["val"] > 4
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    before = torch.load(decoder_file)
    after = torch.load(checkpoint, weights_only=True)["state_dict"]
    for key, weight in before.items():
        assert torch.allclose(after[f"model.decoder.{key}"], weight, atol=1e-6)
    for verb in ("validate", "predict"):
        again = (*given, f"--ckpt_path={checkpoint}")
        run(*arguments(verb, miniature, tmp_path, *again, configs=OVERLAY))
        if verb == "validate":
            metrics = results(tmp_path)["metrics"]
            assert metrics["val/text/miou@best"] == trained["metrics"]["val/text/miou@best"]
    masks = list((tmp_path / "predictions").rglob("*.png"))
    assert len(masks) == trained["dataset_sizes"]["val"]
    assert {Image.open(file).size for file in masks} == {(160, 120)}


@pytest.mark.parametrize(
    ("option", "answer"),
    [
        ("train.table=nothing.csv", "nothing.csv: no such table; name a CSV, a JSONL or a COCO"),
        ("train.table=own/images/0001.jpg", "a table ends in .csv, .jsonl or .json"),
        ("val.table=own/nothing.json", "own/nothing.json: no such table"),
        ("val_share=0", "val_share lies between 0 and 1"),
        ("val_share=1", "val_share lies between 0 and 1"),
        ("phrases_per_image=0", "phrases_per_image is at least 1"),
        ("train.tabel=x", "Did you mean"),
        ("val.images=own", "images or masks without a table"),
    ],
)
def test_mistakes_are_answered_in_one_line(miniature, tmp_path, capsys, option, answer):
    with pytest.raises(SystemExit) as stopped:
        more = f"--data.init_args.{option}"
        run(*arguments("fit", miniature, tmp_path / "new", more, configs=OVERLAY))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code in (1, 2) and answer in said and said.startswith("clipseg_pl: ")
    assert not (tmp_path / "new" / "checkpoints").exists()


def test_rows_that_cannot_serve_are_in_the_results(miniature, tmp_path):
    shutil.copytree(miniature / "own", tmp_path / "own")
    table = tmp_path / "own" / "phrases.csv"
    empty = tmp_path / "own" / "masks" / "empty.png"
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(empty)
    table.write_text(table.read_text() + "images/0001.jpg,masks/empty.png,dog\n")
    run(*arguments("fit", tmp_path, tmp_path / "run", "--trainer.max_steps=1", configs=OVERLAY))
    skipped = results(tmp_path / "run")["dataset_skipped"]
    assert skipped == {"own/phrases.csv": {"whose mask is empty": 1}}
    assert json.loads((tmp_path / "own" / "toy_world.json").read_text())  # nothing was touched


def test_no_table_is_a_dataset_that_is_not_there(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"--data.init_args.train.table"):
        build(tmp_path)
