"""Findings of `doctor` for intact and damaged copies of PhraseCut."""

import json
import os
import shutil

import pytest
from PIL import Image

from clipseg_pl.doctor import findings, phrasecut
from clipseg_pl.doctor.phrasecut import check_phrasecut
from clipseg_pl.images import image_size
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.phrasecut import phrasecut_request
from tests.datasets.written import task, write_phrasecut


@pytest.fixture
def folder(miniature, tmp_path):
    """A copy of the toy PhraseCut that tests may damage."""
    return shutil.copytree(miniature / "VGPhraseCut_v0", tmp_path / "VGPhraseCut_v0")


def findings_of(root, every=False):
    return {finding.subject: finding for finding in check_phrasecut(root, every)}


def states(found):
    return {subject: finding.state for subject, finding in found.items()}


def test_toy_phrasecut_is_ok(tmp_path):
    request = phrasecut_request({"train": 6, "val": 3, "test": 3, "miniv": 2}, 0)
    build_folders(tmp_path, request, progress=False)
    found = findings_of(tmp_path)
    assert set(states(found).values()) == {"ok"}
    tasks = json.loads((tmp_path / "VGPhraseCut_v0" / "refer_train.json").read_text())
    assert found["refer_train.json"].message.startswith(f"6 images, {len(tasks)} phrases")
    assert found["all splits"].message.startswith("14 images")


def test_counts_are_compared_with_the_published_ones(miniature, monkeypatch):
    found = findings_of(miniature)
    assert states(found) == {
        "refer_train.json": "note",
        "refer_val.json": "ok",
        "refer_miniv.json": "note",
        "refer_test.json": "note",
        "val + miniv": "note",
        "all splits": "note",
    }
    message = found["refer_train.json"].message
    assert "12 images, 36 phrases (published: 71,746 images, 310,816 phrases)" in message
    own = {"train": (12, 36), "val + miniv": (7, 21), "miniv": (2, 6), "test": (5, 15)}
    monkeypatch.setattr(phrasecut, "_PUBLISHED", {**own, "all splits": (24, 72)})
    found = findings_of(miniature)
    assert set(states(found).values()) == {"ok"}
    assert "24 images, 72 phrases, as published" in found["all splits"].message


def test_published_numbers_add_up():
    three = [phrasecut._PUBLISHED[name] for name in ("train", "val + miniv", "test")]
    assert tuple(map(sum, zip(*three, strict=True))) == phrasecut._PUBLISHED["all splits"]


def test_missing_dataset_is_one_finding_with_its_source(tmp_path):
    (finding,) = check_phrasecut(tmp_path, False)
    assert finding.state == "missing" and "github.com/ChenyunWu" in finding.message


def test_missing_parts_are_listed_once(folder):
    (folder / "image_data_split.json").unlink()
    (folder / "refer_miniv.json").unlink()
    shutil.rmtree(folder / "images")
    assert states(findings_of(folder.parent)) == {
        "photos in images/": "missing",
        "image_data_split.json": "missing",
        "refer_miniv.json": "note",
    }


@pytest.mark.parametrize("name", ["refer_train.json", "image_data_split.json"])
def test_truncated_json_is_wrong(folder, name):
    file = folder / name
    file.write_text(file.read_text()[:-50])
    found = findings_of(folder.parent)
    assert found[name].state == "wrong" and str(file) in found[name].message
    if name == "refer_train.json":
        assert found["refer_test.json"].state == "note"


@pytest.mark.parametrize(("lost", "state"), [(1, "note"), (2, "wrong")])
def test_missing_photos_are_counted_and_wrong_above_a_tenth(folder, lost, state):
    for image in range(1001, 1001 + lost):  # of 12 training photos
        (folder / "images" / f"{image}.jpg").unlink()
    finding = findings_of(folder.parent)["refer_train.json"]
    assert finding.state == state
    assert f"{lost} of 12 photos are missing (first: 1001.jpg)" in finding.message


def test_resized_photos_are_found(folder):
    Image.new("RGB", (30, 30)).save(folder / "images" / "1003.jpg")
    finding = findings_of(folder.parent)["refer_train.json"]
    assert finding.state == "note" and "that differ from their annotated size" in finding.message
    assert "1 photos (first: 1003.jpg)" in finding.message


def test_truncated_photo_with_valid_header_is_wrong(folder):
    file = folder / "images" / "1003.jpg"
    os.truncate(file, file.stat().st_size * 2 // 3)
    assert image_size(file)
    finding = findings_of(folder.parent)["refer_train.json"]
    assert finding.state == "wrong" and "all 12 photos checked" in finding.message
    assert f"1 of them cannot be decoded (first: {file}: cannot be read" in finding.message


def test_long_lists_are_sampled_unless_all_is_set(folder, monkeypatch):
    monkeypatch.setattr(findings, "SAMPLE", 2)
    Image.new("RGB", (30, 30)).save(folder / "images" / "1003.jpg")
    assert "2 of 12 photos checked" in findings_of(folder.parent)["refer_train.json"].message
    message = findings_of(folder.parent, every=True)["refer_train.json"].message
    assert "all 12 photos checked" in message and "1003.jpg" in message


def test_unusable_tasks_are_counted(tmp_path):
    write_phrasecut(tmp_path, [task(1), task(2, phrase=" "), task(3, polygons=7), task(4, 99)])
    finding = findings_of(tmp_path)["refer_train.json"]
    assert finding.state == "note" and "1 with malformed polygons" in finding.message
    assert finding.message.startswith("2 images, 4 phrases")
    write_phrasecut(tmp_path, [task(1, phrase="")])
    assert findings_of(tmp_path)["refer_train.json"].state == "wrong"


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 5000])
def test_subsample_is_evenly_distributed(count):
    items = list(range(count))
    taken = findings.subsample(items, every=False)
    assert len(taken) == len(set(taken)) == min(count, 200)
    assert sorted(taken) == list(taken) and taken[:1] == items[:1] and taken[-1:] == items[-1:]
    assert findings.subsample(items, every=True) == items
