"""What `doctor` says of a whole and of a damaged LVIS."""

import shutil

import pytest
from PIL import Image

from clipseg_pl.doctor.datasets import check_lvis


@pytest.fixture
def folder(miniature, tmp_path):
    """A copy that can be damaged."""
    return shutil.copytree(miniature / "LVIS", tmp_path / "LVIS")


def look(root):
    return {finding.thing: finding for finding in check_lvis(root, False)}


def test_a_drawn_one_is_all_right(miniature):
    found = look(miniature)
    assert {thing: finding.state for thing, finding in found.items()} == {
        "train": "ok",
        "val": "ok",
    }
    assert found["val"].says.startswith("40 photos")


def test_another_number_of_categories_is_noted(folder):
    (folder / "toy_world.json").unlink()
    finding = look(folder.parent)["val"]
    assert finding.state == "note" and "published are 1,203 categories" in finding.says


def test_missing_parts_are_named_and_the_rest_is_read(folder, tmp_path):
    (folder / "lvis_v1_train.json").unlink()
    found = look(folder.parent)
    assert found["lvis_v1_train.json"].state == "missing" and found["val"].state == "ok"
    shutil.rmtree(folder / "val2017")
    assert look(folder.parent).keys() == {"lvis_v1_train.json", "val2017"}
    shutil.rmtree(folder)
    assert look(folder.parent).keys() == {"LVIS"}


def test_a_truncated_json_is_named(folder):
    file = folder / "lvis_v1_val.json"
    file.write_text(file.read_text()[:-50])
    found = look(folder.parent)
    assert found["val"].state == "wrong" and str(file) in found["val"].says
    assert found["train"].state == "ok"


def test_missing_photos_and_those_of_another_size_are_found(folder):
    gone, other, *_ = sorted((folder / "val2017").iterdir())
    gone.unlink()
    Image.new("RGB", (9, 9)).save(other)
    finding = look(folder.parent)["val"]
    assert finding.state == "wrong"
    assert f"1 photos are missing ({gone})" in finding.says
    assert f"1 of them cannot serve, the first is {other}" in finding.says
