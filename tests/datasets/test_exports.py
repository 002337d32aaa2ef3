"""Folders of exports: their splits, formats and errors."""

import json

import numpy as np
import pytest

from clipseg_pl.images import UnreadableImageError
from datamodules.datasets.exports import read_export
from datamodules.datasets.files import DatasetNotFoundError
from tests.datasets.own import BAR, SQUARE, write_mask, write_photo

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


def test_folder_of_one_split_is_read(tmp_path):
    write_coco(tmp_path / "export" / "train", ["a.png"])
    write_maps(tmp_path / "maps" / "valid", {"b": MAP})
    found = [read_export(tmp_path / name, False, 255) for name in ("export/train", "maps/valid")]
    assert [list(splits) for splits in found] == [["train"], ["train"]]
    assert photos_of(found[0]["train"]) == [tmp_path / "export/train/a.png"]
    assert photos_of(found[1]["train"]) == [tmp_path / "maps/valid/b.jpg"]


def test_photo_outside_of_an_export_is_an_error(tmp_path):
    write_photo(tmp_path / "a.png")
    write_photo(tmp_path / "export" / "train" / "b.png")
    for name in ("../../a.png", str(tmp_path / "a.png")):
        write_coco(tmp_path / "export" / "train", [name])
        with pytest.raises(ValueError, match=r"the photo .*a.png is outside of the export"):
            read_export(tmp_path / "export", False, 255)


def test_missing_splits_are_left_out(tmp_path):
    write_coco(tmp_path / "train", ["a.png"])
    assert list(read_export(tmp_path, False, 255)) == ["train"]


def test_export_without_training_split_is_an_error(tmp_path):
    write_coco(tmp_path / "test", ["a.png"])
    with pytest.raises(DatasetNotFoundError, match="folder train is missing; found only test"):
        read_export(tmp_path, False, 255)


def test_split_with_two_folders_is_an_error(tmp_path):
    for name in ("train", "valid", "val"):
        write_coco(tmp_path / name, ["a.png"])
    with pytest.raises(ValueError, match="has the folders valid and val"):
        read_export(tmp_path, False, 255)


def test_split_without_annotations_is_an_error(tmp_path):
    write_coco(tmp_path / "train", ["a.png"])
    write_photo(tmp_path / "test/b.png")
    with pytest.raises(DatasetNotFoundError, match=r"test/_annotations.coco.json is missing"):
        read_export(tmp_path, False, 255)


# ---- label maps

CRACK, STAIN = 2, 7
MAP = np.where(SQUARE, CRACK, np.where(BAR, STAIN, 0)).astype(np.uint8)
CLASSES = "Pixel Value, Class\n0, background\n2, Wall_crack\n7, stain\n9, dust\n"


def write_maps(folder, maps, classes=CLASSES):
    for grey, (name, values) in enumerate(maps.items()):
        write_photo(folder / f"{name}.jpg", grey)
        write_mask(folder / f"{name}_mask.png", np.asarray(values, np.uint8))
    (folder / "_classes.csv").write_text(classes)


def tasks_of(annotations):
    rows = zip(annotations.photo.tolist(), annotations.phrase.tolist(), strict=True)
    return {
        (annotations.photos[photo], annotations.phrases[phrase]): annotations.masks(row)
        for row, (photo, phrase) in enumerate(rows)
    }


def test_label_maps_with_class_names(tmp_path):
    nothing = np.zeros_like(MAP)
    write_maps(tmp_path / "train", {"a": MAP, "b": nothing, "c": np.where(BAR, CRACK, 0)})
    write_maps(tmp_path / "valid", {"d": MAP})
    found = read_export(tmp_path, False, 255)
    assert list(found) == ["train", "val"]
    train = found["train"]
    assert photos_of(train) == [tmp_path / "train" / f"{name}.jpg" for name in "abc"]
    tasks = tasks_of(train)
    expected = {
        ("a.jpg", "wall crack"): SQUARE,
        ("a.jpg", "stain"): BAR,
        ("c.jpg", "wall crack"): BAR,
    }
    assert tasks.keys() == expected.keys()
    assert all(np.array_equal(tasks[key], mask) for key, mask in expected.items())
    assert len(train.phrases) == 2 and train.unused == ("dust",)
    assert train.valid is None and not train.skipped


def test_split_without_any_class_is_read(tmp_path):
    write_maps(tmp_path / "train", {"a": np.zeros_like(MAP), "b": np.zeros_like(MAP)})
    train = read_export(tmp_path, False, 255)["train"]
    assert len(train.photos) == 2 and not len(train.photo) and not len(train.phrases)


def test_ignored_pixels_of_label_maps(tmp_path):
    ignoring = np.where(BAR, 255, MAP)
    write_maps(tmp_path / "train", {"a": MAP, "b": np.where(BAR, 255, 0), "c": ignoring})
    train = read_export(tmp_path, False, 255)["train"]
    assert [photo.stem for photo in photos_of(train)] == ["a", "c"]  # b shows no class
    assert train.skipped == {"photos without a class that have ignored pixels": 1}
    assert [train.photos[photo] for photo in train.photo] == ["a.jpg", "a.jpg", "c.jpg"]
    assert train.valid(0) is None and np.array_equal(train.valid(2), ~BAR)
    assert np.array_equal(train.masks(2), SQUARE)


def test_ignored_value_with_a_class_is_a_class(tmp_path):
    write_maps(tmp_path / "train", {"a": np.where(BAR, 255, MAP)}, CLASSES + "255, glass\n")
    train = read_export(tmp_path, False, 255)["train"]
    assert np.array_equal(tasks_of(train)["a.jpg", "glass"], BAR) and train.valid is None


def test_value_without_a_class_is_an_error(tmp_path):
    wrong = np.where(BAR, 200, MAP)
    write_maps(tmp_path / "train", {"a": MAP, "b": wrong, "c": wrong})
    message = (
        r"train/_classes.csv: pixel value 200 has no class, but occurs in 2 label maps; first: "
        r".*b_mask.png"
    )
    with pytest.raises(ValueError, match=message):
        read_export(tmp_path, False, 255)
    write_maps(tmp_path / "train", {"a": MAP, "b": np.where(BAR, 255, 0), "c": MAP})
    with pytest.raises(ValueError, match="pixel value 255 has no class"):
        read_export(tmp_path, False, None)


def test_colour_map_is_an_error(tmp_path):
    write_maps(tmp_path / "train", {"a": np.stack([MAP] * 3, 2)})
    with pytest.raises(UnreadableImageError, match=r"a_mask.png: label maps must have one"):
        read_export(tmp_path, False, 255)


def test_missing_label_map_is_an_error(tmp_path):
    write_maps(tmp_path / "train", {"a": MAP, "b": MAP})
    (tmp_path / "train/b_mask.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 2 masks are missing.*b_mask.png"):
        read_export(tmp_path, False, 255)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("x, crack", "'x,crack' is not a pixel value and a class"),
        ("3,", "'3,' is not a pixel value and a class"),
        ("2, mould", "pixel value 2 has two classes"),
        ("3, Stain", "two pixel values have the class 'stain'"),
        ("0, wall", "pixel value 0 has two classes"),
    ],
)
def test_bad_class_table_is_an_error(tmp_path, lines, message):
    write_maps(tmp_path / "train", {"a": MAP}, CLASSES + lines)
    with pytest.raises(ValueError, match=message) as error:
        read_export(tmp_path, False, 255)
    assert "\n" not in str(error.value)


def test_class_of_pixel_value_0_is_an_error(tmp_path):
    write_maps(tmp_path / "train", {"a": MAP}, CLASSES.replace("background", "wall"))
    with pytest.raises(ValueError, match="pixel value 0 has the class 'wall'"):
        read_export(tmp_path, False, 255)
    write_maps(tmp_path / "train", {"a": MAP}, CLASSES.replace("background", "Unlabeled"))
    assert len(read_export(tmp_path, False, 255)["train"].phrases) == 2


# ---- other formats


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "crack-seg.yaml"])
def test_yolo_folder_is_read(tmp_path, name):
    write_photo(tmp_path / "train/images/a.png")
    (tmp_path / "train/labels").mkdir()
    (tmp_path / "train/labels/a.txt").write_text("0 0 0 1 0 1 1 0 1")
    (tmp_path / name).write_text("train: ../train/images\nnames: [wall]\n")
    (tmp_path / "own.yaml").write_text("data: {init_args: {train: {table: x}}}")
    train = read_export(tmp_path, False, 255)["train"]
    assert train.phrases[0] == "wall" and train.masks(0).all()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/a.xml"], r"found Pascal VOC \(train/a.xml\)"),
        (["train/_annotations.createml.json"], "found CreateML"),
        (["train/_classes.csv"], "found a CSV of classes without masks"),
        (["train/_annotations.csv", "train/_classes.csv"], "found a CSV of boxes"),
        (["train/cracks.tfrecord", "train/cracks_label_map.pbtxt"], "found TFRecord"),
        (["annotations.xml", "images/a.jpg"], r"found CVAT for images \(annotations.xml\)"),
        (["train/labels/a.txt"], "found YOLO labels without a data.yaml; "),
        (["labels/a.txt", "classes.txt"], "a data.yaml, as Label Studio writes them; "),
        (["train/a.jpg"], "found no annotations"),
        (["README.txt"], "found no annotations"),
    ],
)
def test_other_format_is_named_with_the_one_to_download(tmp_path, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("filename, crack, stain\na.jpg, 1, 0\n")
    with pytest.raises(ValueError, match=message) as error:
        read_export(tmp_path, False, 255)
    assert "download the data in the format COCO Segmentation" in str(error.value)
    assert "\n" not in str(error.value)


def test_coco_json_of_cvat_is_named(tmp_path):
    file = tmp_path / "annotations" / "instances_default.json"
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(ValueError, match=f"set table to {file} and images to the folder"):
        read_export(tmp_path, False, 255)


def test_zip_file_must_be_unzipped(tmp_path):
    (tmp_path / "cracks.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"contains cracks.zip: unzip it first"):
        read_export(tmp_path, False, 255)
    with pytest.raises(ValueError, match=r"cracks.zip is a zip file: unzip it first"):
        read_export(tmp_path / "cracks.zip", False, 255)
