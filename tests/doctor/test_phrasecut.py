"""What `doctor` says of a whole PhraseCut, and of damaged ones."""

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

BAD = 150417  # one of the published list


@pytest.fixture
def folder(miniature, tmp_path):
    """A copy of the miniature that can be damaged."""
    return shutil.copytree(miniature / "VGPhraseCut_v0", tmp_path / "VGPhraseCut_v0")


def look(root, every=False):
    return {finding.thing: finding for finding in check_phrasecut(root, every)}


def states(found):
    return {thing: finding.state for thing, finding in found.items()}


def test_a_drawn_one_is_all_right(tmp_path):
    request = phrasecut_request({"train": 6, "val": 3, "test": 3, "miniv": 2}, 0)
    build_folders(tmp_path, request, progress=False)
    found = look(tmp_path)
    assert set(states(found).values()) == {"ok"}
    tasks = json.loads((tmp_path / "VGPhraseCut_v0" / "refer_train.json").read_text())
    assert found["refer_train.json"].says.startswith(f"6 images, {len(tasks)} phrases")
    assert found["all splits"].says.startswith("14 images")


def test_numbers_are_held_against_the_published_ones(miniature, monkeypatch):
    found = look(miniature)
    assert states(found) == {
        "refer_train.json": "note",
        "refer_val.json": "ok",
        "refer_miniv.json": "note",
        "refer_test.json": "note",
        "val + miniv": "note",
        "all splits": "note",
    }
    says = found["refer_train.json"].says
    assert "12 images, 36 phrases; published are 71,746 images, 310,816 phrases" in says
    own = {"train": (12, 36), "val + miniv": (7, 21), "miniv": (2, 6), "test": (5, 15)}
    monkeypatch.setattr(phrasecut, "_PUBLISHED", {**own, "all splits": (24, 72)})
    found = look(miniature)
    assert set(states(found).values()) == {"ok"}
    assert "24 images, 72 phrases, as published" in found["all splits"].says


def test_published_numbers_add_up():
    three = [phrasecut._PUBLISHED[name] for name in ("train", "val + miniv", "test")]
    assert tuple(map(sum, zip(*three, strict=True))) == phrasecut._PUBLISHED["all splits"]


def test_nothing_there_is_one_line_with_the_source(tmp_path):
    (finding,) = check_phrasecut(tmp_path, False)
    assert finding.state == "missing" and "github.com/ChenyunWu" in finding.says


def test_missing_parts_are_named_once(folder):
    (folder / "image_data_split.json").unlink()
    (folder / "refer_miniv.json").unlink()
    shutil.rmtree(folder / "images")
    assert states(look(folder.parent)) == {
        "photos in images/": "missing",
        "image_data_split.json": "missing",
        "refer_miniv.json": "note",
    }


@pytest.mark.parametrize("name", ["refer_train.json", "image_data_split.json"])
def test_a_truncated_json_is_named(folder, name):
    file = folder / name
    file.write_text(file.read_text()[:-50])
    found = look(folder.parent)
    assert found[name].state == "wrong" and str(file) in found[name].says
    if name == "refer_train.json":
        assert found["refer_test.json"].state == "note"


@pytest.mark.parametrize(("lost", "state"), [(1, "note"), (2, "wrong")])
def test_lost_photos_are_counted_and_more_than_a_tenth_refused(folder, lost, state):
    for image in range(1001, 1001 + lost):  # 12 to train on
        (folder / "images" / f"{image}.jpg").unlink()
    finding = look(folder.parent)["refer_train.json"]
    assert finding.state == state
    assert f"{lost} of 12 photos are missing (1001.jpg)" in finding.says


def test_photos_of_another_size_are_found(folder):
    Image.new("RGB", (30, 30)).save(folder / "images" / "1003.jpg")
    finding = look(folder.parent)["refer_train.json"]
    assert finding.state == "note" and "of another size" in finding.says
    assert "1 photos, 1003.jpg the first" in finding.says


def test_a_photo_cut_short_is_found_though_its_header_is_fine(folder):
    file = folder / "images" / "1003.jpg"
    os.truncate(file, file.stat().st_size * 2 // 3)
    assert image_size(file)
    finding = look(folder.parent)["refer_train.json"]
    assert finding.state == "wrong" and "all 12 photos read" in finding.says
    assert f"1 of them cannot be decoded, the first is {file}: cannot be read" in finding.says


def test_some_photos_stand_for_a_long_list_unless_all_are_asked_for(folder, monkeypatch):
    monkeypatch.setattr(findings, "SAMPLE", 2)
    Image.new("RGB", (30, 30)).save(folder / "images" / "1003.jpg")
    assert "2 of 12 photos read" in look(folder.parent)["refer_train.json"].says
    says = look(folder.parent, every=True)["refer_train.json"].says
    assert "all 12 photos read" in says and "1003.jpg" in says


def test_tasks_that_cannot_serve_are_counted(tmp_path):
    write_phrasecut(tmp_path, [task(1), task(2, phrase=" "), task(3, polygons=7), task(4, 99)])
    finding = look(tmp_path)["refer_train.json"]
    assert finding.state == "note" and "1 with malformed polygons" in finding.says
    assert finding.says.startswith("2 images, 4 phrases")
    write_phrasecut(tmp_path, [task(1, phrase="")])
    assert look(tmp_path)["refer_train.json"].state == "wrong"


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 5000])
def test_a_sample_is_spread_over_the_list(count):
    items = list(range(count))
    taken = findings.spread(items, every=False)
    assert len(taken) == len(set(taken)) == min(count, 200)
    assert sorted(taken) == list(taken) and taken[:1] == items[:1] and taken[-1:] == items[-1:]
    assert findings.spread(items, every=True) == items
