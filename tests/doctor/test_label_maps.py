"""Findings of `doctor` for intact and damaged label maps and lists."""

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
    """Copies of the toy datasets that tests may damage."""
    for part in ("VOC2012", "lists", "COCO2014", "splits"):
        shutil.copytree(miniature / part, tmp_path / part)
    return tmp_path


def findings_of(check, root, every=False):
    return {finding.subject: finding for finding in check(root, every)}


def first_map(root, labels="SegmentationClass"):
    names = (root / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split()
    return root / "VOC2012" / labels / f"{names[0]}.png"


@pytest.mark.parametrize("check", CHECKS)
def test_toy_datasets_are_ok(miniature, check):
    found = findings_of(check, miniature)
    assert found and {finding.state for finding in found.values()} == {"ok"}


@pytest.mark.parametrize("check", CHECKS)
def test_missing_datasets_have_a_source(tmp_path, check):
    found = findings_of(check, tmp_path)
    assert found and all(finding.state == "missing" for finding in found.values())
    assert all("http" in finding.message for finding in found.values())


def test_counts_are_compared_with_the_published_ones(root, monkeypatch):
    (root / "VOC2012" / "toy_world.json").unlink()
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "note" and "40 photos (published: 1,449 photos)" in finding.message
    monkeypatch.setattr(datasets, "_VOC_VAL", 40)
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "ok" and "40 photos, as published" in finding.message


def test_label_map_saved_as_rgb_is_wrong(root):
    file = first_map(root)
    Image.open(file).convert("RGB").save(file)
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    problem = f"1 of them: has mode RGB, not L or P (first: {file.name}); label maps must be PNGs"
    assert problem in finding.message


def test_label_map_of_grey_values_is_wrong(root):
    """The first class has grey value 38 in VOC's palette."""
    file = first_map(root, "SegmentationClassAug")
    labels = np.array(Image.open(file))
    Image.fromarray(np.where(labels == 0, 0, 38).astype(np.uint8)).save(file)
    for check in (check_pascal_5i, check_pascal_5i_hsnet):
        (finding,) = check(root, False)
        assert finding.state == "wrong" and "1 of them: labels above 20 (first: " in finding.message


def test_label_map_of_coco_category_ids_is_wrong(root):
    file = next((root / "COCO2014/annotations/val2014").iterdir())
    shape = np.array(Image.open(file)).shape
    Image.fromarray(np.full(shape, 90, np.uint8)).save(file)
    finding = findings_of(check_coco_20i, root)["photos and label maps"]
    assert finding.state == "wrong" and "labels above 80" in finding.message


def test_label_map_of_another_size_is_wrong(root):
    file = first_map(root)
    Image.fromarray(np.zeros((7, 7), np.uint8)).save(file)
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of them: size differs from the photo's (first: {file.name})" in finding.message
    assert "label maps must be" not in finding.message


def test_each_photo_and_label_map_is_opened_once(root, monkeypatch):
    opened = Counter()
    real = Image.open

    def counting(file, **options):
        opened[file] += 1
        return real(file, **options)

    monkeypatch.setattr(Image, "open", counting)
    findings_of(check_voc2012, root)
    assert len(opened) == 80 and set(opened.values()) == {1}


def test_unreadable_photo_is_not_reported_as_a_size_mismatch(root):
    photo = root / "VOC2012/JPEGImages" / f"{first_map(root).stem}.jpg"
    photo.write_bytes(b"noise")
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of them: the photo is not a readable image (first: {photo.name})" in finding.message
    assert "size" not in finding.message


def test_missing_photos_and_label_maps_are_counted(root):
    file = first_map(root)
    file.unlink()
    (root / "VOC2012/JPEGImages" / f"{file.stem}.jpg").unlink()
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "wrong"
    assert f"1 of 40 photos are missing (first: {file.stem}.jpg)" in finding.message
    assert f"1 of 40 label maps are missing (first: {file.name})" in finding.message
    assert "all 39 label maps checked" in finding.message


def test_missing_folder_and_list_are_both_reported(root):
    shutil.rmtree(root / "VOC2012" / "SegmentationClassAug")
    (root / "lists/pfenet/val.txt").unlink()
    found = findings_of(check_pascal_5i, root)
    assert found.keys() == {"VOC2012/SegmentationClassAug", "lists/pfenet/val.txt"}
    assert findings_of(check_voc2012, root)["val.txt"].state == "ok"


@pytest.mark.parametrize(
    ("check", "file"),
    [
        (check_pascal_5i, "lists/pfenet/val.txt"),
        (check_pascal_5i_hsnet, "lists/hsnet/pascal/val/fold2.txt"),
        (check_coco_20i, "splits/coco/val/fold1.pkl"),
    ],
)
def test_malformed_list_is_wrong(root, check, file):
    (root / file).write_bytes(b"nonsense\n")
    found = [finding for finding in check(root, False) if finding.state == "wrong"]
    assert len(found) == 1 and str(root / file) in found[0].message


def test_missing_fold_does_not_stop_the_other_checks(root):
    (root / "splits/coco/trn/fold3.pkl").unlink()
    found = findings_of(check_coco_20i, root)
    assert found["splits/coco/trn/fold3.pkl"].state == "missing"
    assert found["splits/coco/trn/fold2.pkl"].state == found["photos and label maps"].state == "ok"


def test_long_lists_are_sampled_unless_all_is_set(root, monkeypatch):
    monkeypatch.setattr(findings, "SAMPLE", 3)
    names = sorted((root / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split())
    file = root / "VOC2012/SegmentationClass" / f"{names[7]}.png"  # not sampled: 0, 20 and 39 are
    Image.open(file).convert("RGB").save(file)
    finding = findings_of(check_voc2012, root)["val.txt"]
    assert finding.state == "ok" and "3 of 40 label maps checked" in finding.message
    finding = findings_of(check_voc2012, root, every=True)["val.txt"]
    assert finding.state == "wrong" and file.name in finding.message
