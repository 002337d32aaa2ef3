"""Folders of exports: their splits, formats and errors."""

import json

import numpy as np
import pytest

from datamodules.datasets.exports import read_export
from datamodules.datasets.files import DatasetNotFoundError
from tests.datasets.own import SQUARE, write_photo

POLYGON = [4, 4, 20, 4, 20, 20, 4, 20]


def write_coco(folder, names, category="crack"):
    """Write photos with one polygon each, as Roboflow does: category 0 is never used."""
    for grey, name in enumerate(names):
        write_photo(folder / name, grey)
    images = [
        {"id": number, "height": 24, "width": 32, "file_name": name}
        for number, name in enumerate(names)
    ]
    annotations = [
        {"id": number, "image_id": number, "category_id": 1, "segmentation": [POLYGON]}
        for number in range(len(names))
    ]
    categories = [{"id": 0, "name": "cracks-3ii36"}, {"id": 1, "name": category}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(content))


def photos_of(annotations):
    return [annotations.photo_file(photo) for photo in range(len(annotations.photos))]


@pytest.mark.parametrize("val", ["valid", "val"])
def test_splits_of_a_coco_export(tmp_path, val):
    for name, photos in (("train", ["a.png", "b.png"]), (val, ["c.png"]), ("test", ["d.png"])):
        write_coco(tmp_path / name, photos)
    found = read_export(tmp_path, False, 255)
    assert {split: photos_of(annotations) for split, annotations in found.items()} == {
        "train": [tmp_path / "train/a.png", tmp_path / "train/b.png"],
        "val": [tmp_path / val / "c.png"],
        "test": [tmp_path / "test/d.png"],
    }
    train = found["train"]
    assert [train.phrases[index] for index in range(len(train.phrases))] == ["crack"]
    assert np.array_equal(train.masks(1), SQUARE)


def test_missing_splits_are_left_out(tmp_path):
    write_coco(tmp_path / "train", ["a.png"])
    assert list(read_export(tmp_path, False, 255)) == ["train"]


def test_export_without_training_split_is_an_error(tmp_path):
    write_coco(tmp_path / "test", ["a.png"])
    with pytest.raises(DatasetNotFoundError, match="no folder train"):
        read_export(tmp_path, False, 255)


def test_split_with_two_folders_is_an_error(tmp_path):
    for name in ("train", "valid", "val"):
        write_coco(tmp_path / name, ["a.png"])
    with pytest.raises(ValueError, match="has the folders valid and val"):
        read_export(tmp_path, False, 255)


def test_split_without_annotations_is_an_error(tmp_path):
    write_coco(tmp_path / "train", ["a.png"])
    write_photo(tmp_path / "test/b.png")
    with pytest.raises(DatasetNotFoundError, match=r"test/_annotations.coco.json: no such file"):
        read_export(tmp_path, False, 255)
