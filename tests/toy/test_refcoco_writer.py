"""Toy RefCOCO family: unambiguous sentences about the photos of toy COCO, in published layouts."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from datamodules.datasets.refcoco import RefCOCO
from datamodules.datasets.refcoco_files import PARTITIONS
from datamodules.toy.language.captions import names_of
from datamodules.toy.language.sentences import place_of
from datamodules.toy.writers.coco import draw_coco
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.refcoco import refcoco_request, sentences

PLACES = {"on the left", "on the right", "at the top", "at the bottom"}


def fits(text, scene, thing):
    """Return whether a sentence describes a thing, word by word."""
    place = next((place for place in PLACES if text.endswith(place)), "")
    if place and place_of(scene, thing) != place:
        return False
    words = text.removesuffix(place).split()
    names = [name.split() for name in names_of(thing)]
    rest = [words[: -len(name)] for name in names if words[-len(name) :] == name]
    return any(set(attributes) <= {thing.colour, thing.texture} for attributes in rest)


def test_sentences_fit_one_thing_of_the_scene(miniature):
    refs = pickle.loads((miniature / "refcoco/refs(unc).p").read_bytes())
    annotations = json.loads((miniature / "refcoco/instances.json").read_text())["annotations"]
    assert len(refs) > 80
    for entry in refs:
        scene = draw_coco(0, "train", entry["image_id"] - 1)
        of_photo = [a["id"] for a in annotations if a["image_id"] == entry["image_id"]]
        index = of_photo.index(entry["ann_id"])
        assert 1 <= len(entry["sentences"]) <= 3
        for sentence in entry["sentences"]:
            fitting = [fits(sentence["sent"], scene, thing) for thing in scene.things]
            assert fitting == [number == index for number in range(len(scene.things))]


def test_masks_are_those_of_the_scene_and_photos_those_of_toy_coco(miniature):
    table = RefCOCO(miniature, "refcoco", None)
    for task in range(0, len(table), 20):
        number = int(table.photo_name(task).split("_")[-1].removesuffix(".jpg"))
        scene = draw_coco(0, "train", number - 1)
        overlaps = [
            (thing.mask & table.mask(task)).sum() / (thing.mask | table.mask(task)).sum()
            for thing in scene.things
        ]
        text = table.phrases[table.phrase(task)]
        assert max(overlaps) > 0.8
        assert text in sentences(scene, int(np.argmax(overlaps)))
        photo = Image.open(miniature / "COCO2014/train2014" / table.photo_name(task))
        assert np.array_equal(table.image(task), np.asarray(photo))


def test_datasets_differ_as_the_published_ones_do(miniature):
    tables = {
        (name, partition): RefCOCO(miniature, name, None, partition)
        for name, partitions in PARTITIONS.items()
        for partition in partitions or (None,)
    }
    assert not any(table.skipped for table in tables.values())
    assert set(tables["refcoco", "unc"].splits) == {"train", "val", "testA", "testB"}
    assert set(tables["refcocog", "umd"].splits) == {"train", "val", "test"}
    assert set(tables["refcoco", "google"].splits) == {"train", "val"}
    assert tables["refcoco-m", None].splits == {"val": tables["refcoco", "unc"].splits["val"]}
    texts = {key: [table.phrases[table.phrase(t)] for t in range(len(table))]
             for key, table in tables.items()}  # fmt: skip
    assert not any(text.endswith(tuple(PLACES)) for text in texts["refcoco+", "unc"])
    assert any(text.endswith(tuple(PLACES)) for text in texts["refcoco", "unc"])
    words = {key: np.mean([len(text.split()) for text in found]) for key, found in texts.items()}
    assert words["refcocog", "umd"] > words["refcoco", "unc"] > words["refcoco+", "unc"]
    general = tables["grefcoco", "unc"]
    assert general.counts()["without a target"] == 2 * 40
    several = [t for t in range(len(general)) if " and " in texts["grefcoco", "unc"][t]]
    assert len(several) > 20 and all(general.has_target(t) for t in several)


def test_no_target_expressions_name_an_absent_kind(miniature):
    refs = json.loads((miniature / "grefcoco/grefs(unc).json").read_text())
    for entry in refs:
        if entry["ann_id"] == [-1]:
            scene = draw_coco(0, "train", entry["image_id"] - 1)
            names = {name for thing in scene.things for name in names_of(thing)}
            assert entry["category_id"] == [-1]
            assert not any(s["sent"].split()[-1] in names for s in entry["sentences"])


def test_equal_seeds_give_equal_files(tmp_path):
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        build_folders(tmp_path / name, refcoco_request({"train": 2}, seed), progress=False)
    first = [file for file in (tmp_path / "one").rglob("*") if file.is_file()]
    assert len(first) >= 15
    for file in first:
        other = tmp_path / "two" / file.relative_to(tmp_path / "one")
        assert file.name.startswith(".") or file.read_bytes() == other.read_bytes()
    third = (tmp_path / "three/refcoco/refs(unc).p").read_bytes()
    assert third != (tmp_path / "one/refcoco/refs(unc).p").read_bytes()
    with pytest.raises(ValueError, match=r"unknown splits \['val'\]: RefCOCO has train"):
        refcoco_request({"val": 1}, 0)
