"""What `doctor` says of whole and of damaged label maps and lists."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.doctor import datasets, findings
from clipseg_pl.doctor.datasets import (
    check_coco_20i,
    check_pascal_5i,
    check_pascal_5i_hsnet,
    check_voc2012,
)

CHECKS = (check_voc2012, check_pascal_5i, check_pascal_5i_hsnet, check_coco_20i)


@pytest.fixture
def root(miniature, tmp_path):
    """Copies that can be damaged."""
    for part in ("VOC2012", "lists", "COCO2014", "splits"):
        shutil.copytree(miniature / part, tmp_path / part)
    return tmp_path


def look(check, root, every=False):
    return {finding.thing: finding for finding in check(root, every)}


def first_map(root, labels="SegmentationClass"):
    names = (root / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split()
    return root / "VOC2012" / labels / f"{names[0]}.png"


@pytest.mark.parametrize("check", CHECKS)
def test_drawn_ones_are_all_right(miniature, check):
    found = look(check, miniature)
    assert found and {finding.state for finding in found.values()} == {"ok"}


@pytest.mark.parametrize("check", CHECKS)
def test_nothing_there_names_a_source(tmp_path, check):
    found = look(check, tmp_path)
    assert found and all(finding.state == "missing" for finding in found.values())
    assert all("http" in finding.says for finding in found.values())


def test_numbers_are_held_against_the_published_ones(root, monkeypatch):
    (root / "VOC2012" / "toy_world.json").unlink()
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "note" and "40 photos; published are 1,449 photos" in finding.says
    monkeypatch.setattr(datasets, "_VOC_VAL", 40)
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "ok" and "40 photos, as published" in finding.says


def test_a_map_saved_as_rgb_is_found(root):
    file = first_map(root)
    Image.open(file).convert("RGB").save(file)
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of them: has mode RGB, not L or P, {file.name} the first: label maps" in finding.says


def test_a_palette_saved_as_greys_is_found(root):
    """Grey values of VOC's palette: 38 for the first class."""
    file = first_map(root, "SegmentationClassAug")
    labels = np.array(Image.open(file))
    Image.fromarray(np.where(labels == 0, 0, 38).astype(np.uint8)).save(file)
    for check in (check_pascal_5i, check_pascal_5i_hsnet):
        (finding,) = check(root, False)
        assert finding.state == "wrong" and "1 of them: labels above 20, " in finding.says


def test_category_ids_of_coco_instead_of_classes_are_found(root):
    file = next((root / "COCO2014/annotations/val2014").iterdir())
    shape = np.array(Image.open(file)).shape
    Image.fromarray(np.full(shape, 90, np.uint8)).save(file)
    finding = look(check_coco_20i, root)["photos and maps"]
    assert finding.state == "wrong" and "labels above 80" in finding.says


def test_a_map_of_another_size_is_found(root):
    file = first_map(root)
    Image.fromarray(np.zeros((7, 7), np.uint8)).save(file)
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of them: another size than the photo's, {file.name} the first" in finding.says
    assert "label maps are" not in finding.says  # palettes are not what is wrong


def test_a_photo_and_its_map_are_opened_once_each(root, monkeypatch):
    opened = Counter()
    real = Image.open

    def counting(file, **options):
        opened[file] += 1
        return real(file, **options)

    monkeypatch.setattr(Image, "open", counting)
    look(check_voc2012, root)
    assert len(opened) == 80 and set(opened.values()) == {1}


def test_a_photo_that_is_no_image_is_told_from_one_of_another_size(root):
    photo = root / "VOC2012/JPEGImages" / f"{first_map(root).stem}.jpg"
    photo.write_bytes(b"noise")
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of them: a photo that is no image, {photo.name} the first" in finding.says
    assert "size" not in finding.says


def test_missing_photos_and_maps_are_counted(root):
    file = first_map(root)
    file.unlink()
    (root / "VOC2012/JPEGImages" / f"{file.stem}.jpg").unlink()
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of 40 photos are missing ({file.stem}.jpg)" in finding.says
    assert f"1 of 40 label maps are missing ({file.name})" in finding.says
    assert "all 39 label maps read" in finding.says


def test_a_missing_folder_and_list_are_named_together(root):
    shutil.rmtree(root / "VOC2012" / "SegmentationClassAug")
    (root / "lists/pfenet/val.txt").unlink()
    found = look(check_pascal_5i, root)
    assert found.keys() == {"VOC2012/SegmentationClassAug", "lists/pfenet/val.txt"}
    assert look(check_voc2012, root)["val.txt"].state == "ok"


@pytest.mark.parametrize(
    ("check", "file"),
    [
        (check_pascal_5i, "lists/pfenet/val.txt"),
        (check_pascal_5i_hsnet, "lists/hsnet/pascal/val/fold2.txt"),
        (check_coco_20i, "splits/coco/val/fold1.pkl"),
    ],
)
def test_a_list_of_something_else_is_named(root, check, file):
    (root / file).write_bytes(b"nonsense\n")
    found = [finding for finding in check(root, False) if finding.state == "wrong"]
    assert len(found) == 1 and str(root / file) in found[0].says


def test_a_missing_fold_leaves_the_others(root):
    (root / "splits/coco/trn/fold3.pkl").unlink()
    found = look(check_coco_20i, root)
    assert found["splits/coco/trn/fold3.pkl"].state == "missing"
    assert found["splits/coco/trn/fold2.pkl"].state == found["photos and maps"].state == "ok"


def test_some_maps_stand_for_a_long_list_unless_all_are_asked_for(root, monkeypatch):
    monkeypatch.setattr(findings, "SAMPLE", 3)
    names = sorted((root / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split())
    file = root / "VOC2012/SegmentationClass" / f"{names[7]}.png"  # read are the ends and a middle
    Image.open(file).convert("RGB").save(file)
    finding = look(check_voc2012, root)["val.txt"]
    assert finding.state == "ok" and "3 of 40 label maps read" in finding.says
    finding = look(check_voc2012, root, every=True)["val.txt"]
    assert finding.state == "wrong" and file.name in finding.says
