"""The check of own data: counts, sizes, copies, the contact sheet, and overlays."""

import json
from collections import Counter

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from clipseg_pl.cli.commands import doctor
from clipseg_pl.doctor.own_data import check_own_data, choose_cells, thickness
from clipseg_pl.inference.overlay import tint
from datamodules.image_folder import ImageFolderDataModule, Table
from tests.datasets.own import BAR, SQUARE, write_csv, write_mask, write_photo
from tests.datasets.test_merge import write_coco


def write_table(folder, name, rows):
    """Write a table of (photo, mask, phrase); the grey of a photo is its number."""
    write_mask(folder / "square.png", SQUARE)
    write_mask(folder / "bar.png", BAR)
    for photo, _, _ in rows:
        write_photo(folder / f"{photo}.png", photo)
    write_csv(
        folder / name,
        [
            {"image": f"{photo}.png", "mask": f"{mask}.png", "phrase": phrase}
            for photo, mask, phrase in rows
        ],
    )


TRAIN = [(0, "bar", "crack"), (1, "bar", "crack"), (1, "square", "joint"), (2, "square", "crack")]
VAL = [(10, "bar", "crack"), (11, "square", "joint")]
TEST = [(20, "bar", "crack")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, rows in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        write_table(tmp_path, f"{name}.csv", rows)
    return tmp_path


def build(folder, **options):
    tables = {"train": Table("train.csv"), "val": Table("val.csv"), "test": Table("test.csv")}
    options = {"image_size": 96, "num_workers": 0, **tables, **options}
    return ImageFolderDataModule(str(folder), **options)


def check(folder, **options):
    return list(check_own_data(build(folder, **options), folder / "runs/sheet.jpg", False))


def message_of(findings, subject, part=""):
    (found,) = [f for f in findings if f.subject == subject and part in f.message]
    return found.state, found.message


@pytest.mark.parametrize(
    ("width", "expected"), [(0, 0), (1, 2), (2, 2), (7, 8), (8, 8), (15, 16), (16, 16), (40, 40)]
)
@pytest.mark.parametrize("left", [0, 20])
def test_thickness_of_a_bar_is_its_width_rounded_up_to_even(width, expected, left):
    mask = np.zeros((200, 64), bool)
    mask[:, left : left + width] = True
    assert thickness(mask) == expected


def test_thickness_is_that_of_the_thickest_part():
    mask = cv2.circle(np.zeros((64, 64), np.uint8), (30, 30), 12, 1, -1) | cv2.line(
        np.zeros((64, 64), np.uint8), (0, 60), (63, 60), 1, 1
    )
    assert thickness(mask.astype(bool)) == pytest.approx(25, abs=1)


def test_counts_of_splits_and_classes(folder):
    findings = check(folder)
    assert message_of(findings, "train")[1].startswith("3 photos")
    assert message_of(findings, "val")[1].startswith("2 photos")
    state, crack = message_of(findings, "crack")
    assert "train: 3 photos, 0 negatives; val: 1 photos, 1 negatives; test: 1 photos" in crack
    assert state == "note" and "few training photos: add more, to at least 10" in crack
    assert "no negatives in training: add photos" in crack and "across" not in crack
    joint = message_of(findings, "joint")[1]
    assert "train: 1 photos, 2 negatives" in joint and "no negatives" not in joint


def test_sizes_at_the_models_resolution(folder):
    """At 96 px, the bar is 4 / 32 * 96 = 12 px wide, and the square 48 px."""
    sizes = [f for f in check(folder) if f.subject == "size"]
    crack, joint = sorted(sizes, key=lambda finding: "joint" in finding.message)
    assert (
        "80 % of crack masks are thinner than one patch (16 px) at 96 px (image_size"
        in crack.message
    )
    assert "median thickness 12 px" in crack.message and crack.state == "note"
    assert "0 % of joint masks" in joint.message and "median thickness 48 px" in joint.message
    area = SQUARE.mean()
    assert f"median area {100 * area:.1f} %" in joint.message and joint.state == "ok"


def test_many_phrases_are_measured_together(folder):
    masks = ["bar"] * 31 + ["square"] * 70
    rows = [(100 + number, mask, f"mark {number}") for number, mask in enumerate(masks)]
    write_table(folder, "train.csv", rows)
    findings = check(folder)
    assert len(findings) < 10 and message_of(findings, "classes")[1].startswith("103 phrases")
    message = message_of(findings, "size")[1]
    assert "32 % of all masks are thinner" in message and "(104 masks)" in message


def test_test_data_defaults_to_validation_data(folder):
    findings = check(folder, test=None)
    assert message_of(findings, "test")[1] == "no test data is given: `test` uses the photos of val"


def test_copies_between_splits_are_found_by_content(folder):
    assert message_of(check(folder), "copies")[0] == "ok"
    (folder / "20.png").write_bytes((folder / "10.png").read_bytes())
    findings = check(folder)
    state, message = message_of(findings, "copies", "1 photos of test are also in val")
    assert state == "note"
    state, message = message_of(findings, "copies", "are the same photo")
    assert state == "note" and "10.png" in message and "20.png" in message


def test_copies_in_the_training_data_are_listed_and_all_splits_are_shown(folder):
    for number in range(11):
        for name, photo in (("train", 100 + number), ("val", 200 + number)):
            write_photo(folder / f"{photo}.png", 100 + number)
            with (folder / f"{name}.csv").open("a") as stream:
                stream.write(f"{photo}.png,bar.png,crack\n")
    findings = check(folder, test=None)
    assert message_of(findings, "copies", "11 photos of val are also in train")[0] == "wrong"
    pairs = [f.message for f in findings if f.subject == "copies" and "the same photo" in f.message]
    assert len(pairs) == 10 and "100.png" in pairs[0] and "200.png" in pairs[0]
    assert {"train", "val", "crack", "contact sheet"} <= {finding.subject for finding in findings}


def test_versions_of_a_photo_in_two_splits_are_noted(tmp_path):
    for split, names in (("train", "ab"), ("valid", "bc"), ("test", "d")):
        photos = {f"{name}_jpg.rf.{split}.png": [("crack", "bar")] for name in names}
        for number, photo in enumerate(photos):
            write_photo(tmp_path / "cracks" / split / photo, ord(names[number]) + len(split))
        write_coco(tmp_path / "cracks" / split, photos, "_annotations.coco.json")
    data = ImageFolderDataModule(str(tmp_path), train=Table("cracks"), image_size=96, num_workers=0)
    findings = list(check_own_data(data, tmp_path / "sheet.jpg", False))
    (found,) = [f for f in findings if f.subject == "versions"]
    assert (
        found.state == "note" and "augmented versions in both train and val: 1 (by" in found.message
    )


def test_unreadable_data_is_one_finding(folder):
    (folder / "0.png").unlink()
    (finding,) = check(folder)
    assert finding.state == "wrong" and "1 of its 3 photos are missing" in finding.message


def test_contact_sheet_shows_photos_with_their_masks(folder):
    findings = check(folder)
    sheet = folder / "runs/sheet.jpg"
    assert message_of(findings, "contact sheet") == ("ok", f"7 photos with their masks: {sheet}")
    written = np.asarray(Image.open(sheet)).astype(int)
    assert written.shape == (8 + 2 * (240 + 24 + 8), 8 + 6 * 248, 3)
    photo = np.zeros((24, 32, 3), np.uint8)  # the first photo is black with the bar
    expected = np.asarray(tint(photo, BAR, 0)).astype(int)
    assert np.abs(written[8 : 8 + 24, 8 : 8 + 32] - expected)[:, 4:20].max() < 20
    assert np.abs(written[20, 8 + 26] - expected[12, 26]).max() < 40


def test_photos_are_spread_over_splits_and_classes(folder):
    rows = [(photo, "bar", "crack") for photo in range(100, 130)]
    write_table(folder, "train.csv", [*rows, (130, "square", "joint")])
    data = build(folder)
    data.setup("fit")
    sources = {split: dataset.source for split, dataset in data.datasets.items()}
    cells = list(choose_cells(sources, ["crack", "joint"], 8))
    captions = Counter(cell.caption for cell in cells)
    assert captions == {"train: crack": 5, "train: joint": 1, "val: crack": 1, "val: joint": 1}
    greys = [int(cell.photo[0, 0, 0]) for cell in cells[:5]]
    assert greys[0] == 100 and greys[-1] == 129 and len(set(greys)) == 5
    assert [cell.position for cell in cells[4:6]] == [0, 1]


def test_photos_without_annotations_are_shown(tmp_path):
    write_photo(tmp_path / "train/a.png", 1)
    write_photo(tmp_path / "train/b.png", 2)
    write_photo(tmp_path / "valid/c.png", 3)
    polygon = [[4, 4, 20, 4, 20, 20, 4, 20]]
    for name, photos in (("train", "ab"), ("valid", "c")):
        content = {
            "images": [
                {"id": number, "height": 24, "width": 32, "file_name": f"{photo}.png"}
                for number, photo in enumerate(photos)
            ],
            "categories": [{"id": 1, "name": "crack"}],
            "annotations": [
                {"id": 1, "image_id": 0, "category_id": 1, "segmentation": polygon, "iscrowd": 0}
            ],
        }
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(content))
    data = ImageFolderDataModule(str(tmp_path), train=Table("."), image_size=96, num_workers=0)
    findings = list(check_own_data(data, tmp_path / "sheet.jpg", False))
    assert "2 photos; 1 of them without annotations" in message_of(findings, "train")[1]
    assert "train: 1 photos, 1 negatives" in message_of(findings, "crack")[1]
    assert message_of(findings, "contact sheet")[1].startswith("3 photos")


# ---- overlays


def write_overlay(folder, **options):
    tables = {name: {"table": f"{name}.csv"} for name in ("train", "val", "test")}
    content = {
        "data": {
            "class_path": "datamodules.image_folder.ImageFolderDataModule",
            "init_args": {"root": str(folder), "image_size": 96, **tables, **options},
        },
        "trainer": {"max_steps": 3},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(content))


def test_overlay_is_checked(folder, capsys):
    write_overlay(folder, phrases={"crack": ["segment crack", "wall crack"]})
    doctor.main(["own.yaml"])
    out = capsys.readouterr().out
    assert "data of own.yaml" in out and "phrases: segment crack, wall crack" in out
    assert "runs/own_contact_sheet.jpg" in out
    assert [file.name for file in (folder / "runs").iterdir()] == ["own_contact_sheet.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainer: {max_steps: 3}", "the section `data` with init_args is missing; see docs"),
        ("data: [", "not YAML"),
        ("data: {init_args: {rot: x}}", "Option 'rot' is not accepted. Did you mean root?"),
        ("data: {init_args: {val_share: 4}}", "val_share must be above 0 and below 1, not 4.0"),
        ("data: {init_args: {train: {table: none.csv}}}", "none.csv: no such table"),
        (
            "data: {class_path: datamodules.phrasecut.PhraseCutDataModule, init_args: {root: x}}",
            "describes neither own data nor label maps",
        ),
    ],
)
def test_wrong_overlay_is_one_line(folder, capsys, text, message):
    (folder / "own.yml").write_text(text)
    with pytest.raises(SystemExit, match=r"cannot be used: own.yml$"):
        doctor.main(["own.yml"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(lines) == 1 and message in lines[0] and "wrong" in lines[0]


def test_missing_overlay_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"cannot be used: own.yaml$"):
        doctor.main(["own.yaml"])
    assert "own.yaml: no such file" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
