"""YOLO's segmentation format, compared with masks made by hand."""

import numpy as np
import pytest

from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.yolo import read_yolo
from tests.datasets.own import BAR, SIZE, SQUARE, rectangle, write_photo, write_turned

HEIGHT, WIDTH = SIZE
SQUARE_LINE = "0 " + " ".join(
    f"{x / WIDTH} {y / HEIGHT}" for x, y in ((4, 4), (20, 4), (20, 20), (4, 20))
)
BAR_LINE = "1 " + " ".join(
    f"{x / WIDTH} {y / HEIGHT}" for x, y in ((24, 0), (28, 0), (28, 24), (24, 24))
)
BAR_BOX = f"1 {26 / WIDTH} 0.5 {4 / WIDTH} 1"


def write(root, labels, yaml="names: [Dry_wall Join, bar]\ntrain: images/train\n", ending="png"):
    """Write a photo in grey k and its label file for each k; None writes no label file."""
    for grey, text in enumerate(labels):
        write_photo(root / f"images/train/{grey}.{ending}", grey)
        if text is not None:
            file = root / f"labels/train/{grey}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    (root / "data.yaml").write_text(yaml)
    return root / "data.yaml"


def tasks_of(annotations):
    """Mask of each photo and phrase."""
    rows = zip(annotations.photo.tolist(), annotations.phrase.tolist(), strict=True)
    return {
        (annotations.photos[photo], annotations.phrases[phrase]): annotations.masks(row)
        for row, (photo, phrase) in enumerate(rows)
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for key, mask in expected.items():
        assert np.array_equal(found[key], mask), key


def test_polygons_of_a_class_are_merged_to_one_mask(tmp_path):
    both = BAR_LINE.replace("1 ", "0 ", 1)
    file = write(tmp_path, [f"{SQUARE_LINE}\n\n{both}\n{BAR_LINE}\n", BAR_LINE, SQUARE_LINE])
    found = read_yolo(file, False)
    assert list(found) == ["train"]
    expected = {
        ("0.png", "dry wall join"): SQUARE | BAR,
        ("0.png", "bar"): BAR,
        ("1.png", "bar"): BAR,
        ("2.png", "dry wall join"): SQUARE,
    }
    assert_equal(tasks_of(found["train"]), expected)
    assert found["train"].photo_file(1).is_file() and found["train"].number.tolist() == [1, 2, 3, 4]


def test_photos_without_label_file_or_lines_have_no_annotations(tmp_path):
    train = read_yolo(write(tmp_path, [SQUARE_LINE, "", None, " \n"]), False)["train"]
    assert [train.photos[photo] for photo in range(4)] == ["0.png", "1.png", "2.png", "3.png"]
    assert train.photo.tolist() == [0] and train.sizes.tolist() == [[24, 32]] * 4
    assert train.skipped == {}


def test_photos_of_a_split_may_all_be_without_annotations(tmp_path):
    train = read_yolo(write(tmp_path, ["", ""]), False)["train"]
    assert len(train.photos) == 2 and not len(train.photo) and not len(train.phrases)


def test_polygon_without_a_pixel_leaves_its_class_unknown(tmp_path):
    point = "1 " + "0.5 0.5 " * 3
    train = read_yolo(write(tmp_path, [f"{SQUARE_LINE}\n{point}", point]), False)["train"]
    assert_equal(tasks_of(train), {("0.png", "dry wall join"): SQUARE})
    assert train.skipped == {"with an empty mask": 2}
    unknown = [(photo, train.phrases[phrase]) for photo, phrase in train.unknown.tolist()]
    assert unknown == [(0, "bar"), (1, "bar")]
    assert not len(train.without_annotations())


def test_boxes_are_rejected_or_filled(tmp_path):
    file = write(tmp_path, [f"{SQUARE_LINE}\n{BAR_BOX}", BAR_BOX])
    message = r"2 annotations have a box and no mask \(first: .*0.txt, line 2\): to fill the boxes"
    with pytest.raises(ValueError, match=message):
        read_yolo(file, False)
    train = read_yolo(file, True)["train"]
    expected = {("0.png", "dry wall join"): SQUARE, ("0.png", "bar"): BAR, ("1.png", "bar"): BAR}
    assert_equal(tasks_of(train), expected)
    assert train.boxes == 2 and train.row_boxes.tolist() == [0, 1, 1]


def test_box_over_the_edge_of_the_photo_is_clipped(tmp_path):
    train = read_yolo(write(tmp_path, [f"0 0 0 {8 / WIDTH} {8 / HEIGHT}"]), True)["train"]
    assert_equal(tasks_of(train), {("0.png", "dry wall join"): rectangle(0, 4, 0, 4)})


def test_sizes_follow_the_orientation_of_the_photo(tmp_path):
    file = write(tmp_path, [BAR_LINE], ending="jpg")
    write_turned(tmp_path / "images/train/0.jpg", (32, 24))  # upright: 24 x 32
    assert_equal(tasks_of(read_yolo(file, False)["train"]), {("0.jpg", "bar"): BAR})


@pytest.mark.parametrize(
    ("yaml", "folders"),
    [
        ("train: ../train/images\nval: ../valid/images\ntest: ../test/images", "{}/images"),
        ("train: train/images\nval: valid/images\ntest: test/images", "{}/images"),
        ("train: images/train\nval: images/valid\ntest: images/test", "images/{}"),
        ("path: data\ntrain: images/train\nval: images/valid\ntest: images/test", "data/images/{}"),
        (
            "train: cracks-1/train/images\nval: /data/cracks-1/valid/images\ntest: ../test/images",
            "{}/images",
        ),
        ("path: /nowhere\ntrain: train/images\nval: valid/images\ntest: test/images", "{}/images"),
        ("train: train\nval: valid\ntest: test", "{}/images"),
    ],
)
def test_folders_as_roboflow_and_ultralytics_write_them(tmp_path, yaml, folders):
    for split in ("train", "valid", "test"):
        folder = tmp_path / folders.format(split)
        write_photo(folder / f"{split}.png")
        label = tmp_path / folders.replace("images", "labels").format(split) / f"{split}.txt"
        label.parent.mkdir(parents=True)
        label.write_text(SQUARE_LINE)
    (tmp_path / "data.yaml").write_text(f"{yaml}\nnames:\n  0: square\n  3: bar\n")
    found = read_yolo(tmp_path / "data.yaml", False)
    assert list(found) == ["train", "val", "test"]
    for annotations, name in zip(found.values(), ("train", "valid", "test"), strict=True):
        assert annotations.photo_file(0) == tmp_path / folders.format(name) / f"{name}.png"
        assert [annotations.phrases[0]] == ["square"]


def test_split_whose_folder_is_missing_is_left_out(tmp_path, caplog):
    """Roboflow names a test folder even if the export has none."""
    yaml = "names: [a, b]\ntrain: images/train\nval:\ntest: ../test/images\n"
    assert list(read_yolo(write(tmp_path, [SQUARE_LINE], yaml), False)) == ["train"]
    assert "the export has no test split" in caplog.text and len(caplog.records) == 1


def test_split_with_the_training_folder_is_left_out(tmp_path):
    """Ultralytics requires `val`, so datasets without validation photos repeat `train`."""
    yaml = "names: [a, b]\ntrain: images/train\nval: images/train\n"
    assert list(read_yolo(write(tmp_path, [SQUARE_LINE], yaml), False)) == ["train"]


def test_parent_folder_is_not_taken_for_roboflows_train_images(tmp_path):
    """Roboflow's ../train/images means the folder beside data.yaml."""
    for root in (tmp_path, tmp_path / "cracks"):
        write(root, [SQUARE_LINE])
        (root / "train").mkdir()
        for name in ("images", "labels"):
            (root / name / "train").rename(root / "train" / name)
    file = tmp_path / "cracks/data.yaml"
    file.write_text("train: ../train/images\nnames: [square]\n")
    assert read_yolo(file, False)["train"].folder == tmp_path / "cracks/train/images"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.1 0.2 0.2 0.3", "5 numbers after the class"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "7 numbers after the class"),
        ("0 0.1 0.1", "2 numbers after the class"),
        ("0", "0 numbers after the class"),
        ("crack 0.1 0.1 0.2 0.2 0.3 0.3", "is not a class and coordinates"),
        ("0 0.1 nan 0.2 0.2 0.3 0.3", "outside the photo"),
        ("0 1 1 20 1 20 20", "outside the photo; they must be shares of its sides"),
        ("0 -0.5 0.1 0.2 0.2 0.3 0.3", "outside the photo"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.3", "class 2 has no name in data.yaml"),
        ("0.5 0.1 0.1 0.2 0.2 0.3 0.3", "class 0.5 has no name"),
        ("0 0.5 0.5 0 0.2", "the box has no area"),
        ("0 1.5 0.5 0.1 0.2", "outside the photo"),
    ],
)
def test_bad_line_is_named_with_file_and_line(tmp_path, line, message):
    file = write(tmp_path, [SQUARE_LINE, f"{SQUARE_LINE}\n{line}\n"])
    with pytest.raises(ValueError, match=message) as error:
        read_yolo(file, True)
    assert f"{tmp_path}/labels/train/1.txt, line 2: " in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("train: images/train\n", "names must be a list of class names"),
        ("names: [yes, no]\ntrain: images/train\n", "names has 0: True; .*in quotes"),
        ("names: {a: b}\ntrain: images/train\n", "names has 'a': 'b'"),
        ("names: [a, b]\n", "train is missing"),
        ("names: [a, b]\ntrain: [images/train, 3]\n", "train must be a folder of photos"),
        ("names: [a, b]\ntrain: [images/train, more]\n", "train is more, but the folder"),
        ("names: [a, b]\ntrain: train.txt\n", "the file .*train.txt does not exist: correct train"),
        ("names: [a, b]\ntrain: images/other\n", "the folder .*images/other does not exist"),
        ("names: [a, b]\ntrain: images/train\nkpt_shape: [17, 3]\n", "key points .*segmentation"),
        ("names: [a\n", "not YAML"),
        ("- a\n", "expected names, train and val, not list"),
    ],
)
def test_bad_description_raises_one_line(tmp_path, yaml, message):
    file = write(tmp_path, [SQUARE_LINE], yaml)
    with pytest.raises((ValueError, DatasetNotFoundError), match=message) as error:
        read_yolo(file, False)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)


def test_photos_without_any_label_file_are_an_error(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"none of the 2 photos .* has a label file"):
        read_yolo(write(tmp_path, [None, None]), False)


def test_label_files_without_a_photo_are_counted(tmp_path):
    file = write(tmp_path, [SQUARE_LINE])
    for name in ("0_lost.txt", "classes.txt"):
        (tmp_path / "labels/train" / name).write_text(SQUARE_LINE)
    assert read_yolo(file, False)["train"].skipped == {"label files without a photo": 1}


def test_photos_with_the_same_label_file_are_an_error(tmp_path):
    file = write(tmp_path, [SQUARE_LINE])
    write_photo(tmp_path / "images/train/0.jpg")
    with pytest.raises(ValueError, match=r"0.txt belongs to both 0.jpg and 0.png"):
        read_yolo(file, False)


@pytest.mark.parametrize("prefix", ["", "data/", "/data/cracks/", "./"])
@pytest.mark.parametrize("below", ["", "more/"])
def test_text_file_lists_the_photos_of_a_split(tmp_path, prefix, below):
    """CVAT writes data/images/train/1.jpg for the photo images/train/1.jpg."""
    write(tmp_path, [SQUARE_LINE, BAR_LINE, SQUARE_LINE])
    for folder in ("images", "labels"):
        for file in (tmp_path / folder / "train").iterdir():
            file.parent.joinpath(below).mkdir(exist_ok=True)
            file.rename(file.parent / below / file.name)
    lines = [f"{prefix}images/train/{below}{number}.png\n" for number in (2, 0)]
    (tmp_path / "train.txt").write_text("".join(lines) + "\n")
    (tmp_path / "val.txt").write_text(f"{prefix}images/train/{below}1.png")
    (tmp_path / "data.yaml").write_text(
        "path: ./\ntrain: train.txt\nval: val.txt\nnames: {0: square, 1: bar}\n"
    )
    found = read_yolo(tmp_path / "data.yaml", False)
    photo = f"images/train/{below}{{}}.png"
    expected = {(photo.format(number), "square"): SQUARE for number in (0, 2)}
    assert_equal(tasks_of(found["train"]), expected)
    assert_equal(tasks_of(found["val"]), {(photo.format(1), "bar"): BAR})


def test_missing_photo_of_a_text_file_is_an_error(tmp_path):
    file = write(tmp_path, [SQUARE_LINE], "train: train.txt\nnames: [square]\n")
    (tmp_path / "train.txt").write_text("images/train/0.png\nimages/train/1.png\n")
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 2 photos .*images/train/1.png"):
        read_yolo(file, False)


def test_split_can_be_a_list_of_folders(tmp_path):
    write(tmp_path, [SQUARE_LINE])
    write(tmp_path / "more", [BAR_LINE])
    text = "train: [images/train, more/images/train]\nnames: [square, bar]\n"
    (tmp_path / "data.yaml").write_text(text)
    expected = {
        ("images/train/0.png", "square"): SQUARE,
        ("more/images/train/0.png", "bar"): BAR,
    }
    assert_equal(tasks_of(read_yolo(tmp_path / "data.yaml", False)["train"]), expected)


def test_validation_photos_without_any_label_file_are_left_out(tmp_path, caplog):
    file = write(tmp_path, [SQUARE_LINE], "train: images/train\nval: images/val\nnames: [square]\n")
    write_photo(tmp_path / "images/val/1.png")
    assert list(read_yolo(file, False)) == ["train"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "has a label file" in line and line.endswith("the val split is left out")
