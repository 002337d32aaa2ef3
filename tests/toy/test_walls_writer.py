"""Toy exports of Roboflow: the annotations match the drawn walls."""

import json

import cv2
import numpy as np
import pytest
import yaml

from clipseg_pl.images import load_photo
from datamodules.datasets.coco_json import read_coco
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.walls import EXPORTS, WALL_SPLITS, draw_wall, walls_request

COUNTS = {"train": 40, "valid": 21, "test": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("my world")
    return build_folders(root, walls_request(COUNTS, 3, root), progress=False)


def read(folder, export, split):
    """Return the content of a split's JSON."""
    return json.loads((folder / export / split / "_annotations.coco.json").read_text())


def drawn(export, split, content):
    """Draw the walls of a split again."""
    return [draw_wall(3, export, split, index) for index in range(len(content["images"]))]


def test_images_are_shared_between_the_exports(folder):
    found = {
        export: [len(list((folder / export / split).glob("*.jpg"))) for split in WALL_SPLITS]
        for export in EXPORTS
    }
    assert found == {"cracks": [20, 11, 10], "taping": [20, 10, 10]}


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("split", WALL_SPLITS)
def test_photos_and_boxes_match_the_walls(folder, export, split):
    content = read(folder, export, split)
    walls = drawn(export, split, content)
    masks = [(image, mask) for image, wall in enumerate(walls) for mask in wall.masks]
    for annotation, (image, mask) in zip(content["annotations"], masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        size = np.ptp(columns) + 1, np.ptp(rows) + 1
        assert annotation["bbox"] == [columns[0], rows[0], *size]
        assert annotation["image_id"] == image and annotation["category_id"] == 1
    for image, wall in zip(content["images"], walls, strict=True):
        photo = load_photo(folder / export / split / image["file_name"])
        assert photo.shape == (image["height"], image["width"], 3) == (320, 320, 3)
        assert np.abs(photo.astype(float) - wall.image).mean() < 4


def test_polygons_of_cracks_reproduce_their_masks(folder, tmp_path):
    content = read(folder, "cracks", "train")
    masks = [mask for wall in drawn("cracks", "train", content) for mask in wall.masks]
    polygons = [each for each in content["annotations"] if each["segmentation"]]
    for each in polygons:
        each["phrase"] = str(each["id"])  # the reader joins equal phrases
    file = tmp_path / "polygons.json"
    file.write_text(json.dumps({**content, "annotations": polygons}))
    read_back = read_coco(file, folder / "cracks" / "train")
    for row, phrase in enumerate(read_back.phrase.tolist()):
        different = read_back.masks(row) != masks[int(read_back.phrases[phrase])]
        assert different.sum() <= 2  # ends of lines, see `polygons_of`
    assert len(read_back.phrase) == len(polygons) >= 0.9 * len(masks)


def test_few_cracks_and_all_joints_have_boxes_only(folder):
    share = {}
    for export in EXPORTS:
        annotations = read(folder, export, "train")["annotations"]
        share[export] = np.mean([not each["segmentation"] for each in annotations])
    assert 0 < share["cracks"] < 0.1 and share["taping"] == 1


@pytest.mark.parametrize("export", EXPORTS)
@pytest.mark.parametrize("split", WALL_SPLITS)
def test_about_15_percent_of_the_photos_of_every_split_are_clean(folder, export, split):
    content = read(folder, export, split)
    photos = len(content["images"])
    clean = photos - len({each["image_id"] for each in content["annotations"]})
    assert photos <= 10 * clean <= 2 * photos


def test_cracks_are_thin_dark_lines_and_joints_are_wide_bands():
    for index in range(12):
        wall = draw_wall(0, "cracks", "train", index)
        for mask in wall.masks:
            widest = 2 * cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).max()
            around = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25))).astype(bool)
            around &= ~np.any(wall.masks, 0)
            assert 2 <= widest <= 18  # up to 14 pixels where the line does not bend
            assert wall.image[mask].mean() < wall.image[around].mean() - 20
        joints = draw_wall(0, "taping", "train", index).masks
        assert all(mask[mask.any(1)][:, mask.any(0)].all() for mask in joints)  # rectangles
        assert all(16 <= min(mask.any(0).sum(), mask.any(1).sum()) < 45 for mask in joints)


@pytest.mark.parametrize("export", EXPORTS)
def test_only_the_root_category_has_no_annotation(folder, export):
    for split in WALL_SPLITS:
        content = read(folder, export, split)
        root, used = content["categories"]
        assert used["supercategory"] == root["name"] and root["id"] == 0
        assert {each["category_id"] for each in content["annotations"]} == {used["id"]}


def test_file_names_and_ids_are_unique(folder):
    photos = [file.name for file in folder.rglob("*.jpg")]
    assert len(set(photos)) == len(photos) == sum(COUNTS.values())
    for export in EXPORTS:
        for split in WALL_SPLITS:
            content = read(folder, export, split)
            for kind in ("images", "annotations"):
                assert len({each["id"] for each in content[kind]}) == len(content[kind])


def test_overlay_contains_the_given_root_and_all_classes(folder):
    text = (folder / "own.yaml").read_text()
    settings = yaml.safe_load(text)["data"]["init_args"]
    assert settings["root"] == folder.as_posix() and settings["boxes"] == "rectangles"
    assert settings["train"]["table"] == list(EXPORTS)
    assert settings["phrases"].keys() == {category for _, category in EXPORTS.values()}
    assert f"'{folder.as_posix()}/own.yaml'" in text  # a command that can be copied


def test_overlay_keeps_a_relative_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path.relative_to(tmp_path) / "toy_data"
    built = build_folders(root, walls_request({"train": 1}, 0, root), progress=False)
    overlay = yaml.safe_load((built / "own.yaml").read_text())
    assert overlay["data"]["init_args"]["root"] == "toy_data/walls"


def test_unknown_split_raises(tmp_path):
    with pytest.raises(ValueError, match=r"unknown splits \['val'\]: walls has train, valid, test"):
        walls_request({"val": 3}, 0, tmp_path)
