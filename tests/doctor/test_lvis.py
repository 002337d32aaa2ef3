"""Findings of `doctor` for intact and damaged copies of LVIS."""

import shutil

import pytest
from PIL import Image

from clipseg_pl.doctor.datasets import check_lvis


@pytest.fixture
def folder(miniature, tmp_path):
    """A copy of the toy LVIS that tests may damage."""
    return shutil.copytree(miniature / "LVIS", tmp_path / "LVIS")


def findings_of(root):
    return {finding.subject: finding for finding in check_lvis(root, False)}


def test_toy_lvis_is_ok(miniature):
    found = findings_of(miniature)
    assert {subject: finding.state for subject, finding in found.items()} == {
        "train": "ok",
        "val": "ok",
    }
    assert found["val"].message.startswith("40 photos")


def test_different_number_of_categories_is_noted(folder):
    (folder / "toy_world.json").unlink()
    finding = findings_of(folder.parent)["val"]
    assert finding.state == "note" and "(published: 1,203 categories)" in finding.message


def test_missing_parts_are_listed_and_others_are_read(folder, tmp_path):
    (folder / "lvis_v1_train.json").unlink()
    found = findings_of(folder.parent)
    assert found["lvis_v1_train.json"].state == "missing" and found["val"].state == "ok"
    shutil.rmtree(folder / "val2017")
    assert findings_of(folder.parent).keys() == {"lvis_v1_train.json", "val2017"}
    shutil.rmtree(folder)
    assert findings_of(folder.parent).keys() == {"LVIS"}


def test_truncated_json_is_wrong(folder):
    file = folder / "lvis_v1_val.json"
    file.write_text(file.read_text()[:-50])
    found = findings_of(folder.parent)
    assert found["val"].state == "wrong" and str(file) in found["val"].message
    assert found["train"].state == "ok"


def test_missing_and_resized_photos_are_found(folder):
    gone, other, *_ = sorted((folder / "val2017").iterdir())
    gone.unlink()
    Image.new("RGB", (9, 9)).save(other)
    finding = findings_of(folder.parent)["val"]
    assert finding.state == "wrong"
    assert f"1 of 40 photos are missing (first: {gone})" in finding.message
    assert f"1 of them are not usable (first: {other}" in finding.message
