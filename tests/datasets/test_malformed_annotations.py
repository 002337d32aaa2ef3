"""Malformed PhraseCut files: unusable tasks (entries) are skipped, unusable files raise."""

import json

import pytest
from PIL import Image

from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrasecut import PhraseCut
from tests.datasets.written import SQUARE, task, write_phrasecut

GOOD = [task(0, 1, "good"), task(99, 2, "good too")]
POINT, SEGMENT = [3.0, 3.0], [[3.0, 3.0], [9.0, 3.0]]
OUTSIDE = [[-9.0, -9.0], [-2.0, -9.0], [-2.0, -2.0]]
NAN, INF = float("nan"), float("inf")
MALFORMED = {
    "three levels": SQUARE[0],
    "five levels": [SQUARE],
    "a point of three coordinates": [[[[1.0, 2.0, 3.0], [1.0, 5.0, 3.0], [4.0, 4.0, 4.0]]]],
    "ragged": [[[[1.0, 2.0], [3.0], [4.0, 4.0]]]],
    "empty points": [[[[], []]]],
    "words": [[[["a", "b"], ["c", "d"]]]],
    "a number": 7,
    "an object": {"a": SQUARE},
    "null": None,
    "null inside": [[[[1.0, None], [2.0, 2.0], [3.0, 1.0]]]],
    "NaN": [[[[NAN, 1.0], [2.0, 2.0], [3.0, 1.0]]]],
    "infinity": [[[[INF, 1.0], [2.0, 2.0], [3.0, 1.0]]]],
    "one of two": [SQUARE[0], [[[NAN, 1.0], [2.0, 2.0], [3.0, 1.0]]]],
}


def skipped(root, tasks, photos=(1, 2)):
    """Open a dataset of two valid tasks and `tasks`; return the skipped ids by reason."""
    write_phrasecut(root, [GOOD[0], *tasks, GOOD[1]], photos)
    source = PhraseCut(root, "train")
    assert [source.name(i) for i in range(len(source))] == ["1__0", "2__99"]
    assert all(source.mask(i).any() for i in range(2))
    return source.index.skipped


@pytest.mark.parametrize("polygons", MALFORMED.values(), ids=MALFORMED)
def test_tasks_with_malformed_polygons_are_skipped(tmp_path, polygons, caplog):
    found = skipped(tmp_path, [task(7, 1, "odd", polygons), task(8, 1, "odd", polygons)])
    assert found == {"with malformed polygons": ["1__7", "1__8"]}
    assert "refer_train.json: skipped tasks: 2 with malformed polygons; their ids" in caplog.text


@pytest.mark.parametrize(
    "polygons",
    [
        *([], [[]], [[[]]], [[[POINT]]], [[[POINT]], [[], [POINT]]]),
        *([[SEGMENT]], [[[POINT, POINT, POINT]]], [[OUTSIDE]]),
    ],
)
def test_tasks_with_polygons_that_cover_no_pixel_are_skipped(tmp_path, polygons):
    found = skipped(tmp_path, [task(7, 1, "odd", polygons)])
    assert found == {"with polygons that cover no pixel": ["1__7"]}


def test_polygons_of_one_point_are_ignored_as_in_the_official_evaluator(tmp_path):
    write_phrasecut(tmp_path, [task(0, 1, "a", [[[POINT], *SQUARE[0], []], [SEGMENT]])])
    polygons = PhraseCut(tmp_path, "train").index.polygons(0)
    assert [polygon.tolist() for polygon in polygons] == [SQUARE[0][0], SEGMENT]


@pytest.mark.parametrize("phrase", ["", " \t\n", None, 5, ["dog"]])
def test_tasks_without_a_phrase_are_skipped(tmp_path, phrase):
    assert skipped(tmp_path, [task(7, 1, phrase)]) == {"without a phrase": ["1__7"]}


@pytest.mark.parametrize("image", [77, "1", None, 1.5, [1]])
def test_tasks_on_unknown_images_are_skipped(tmp_path, image):
    found = skipped(tmp_path, [task(7, image) | {"task_id": "odd__7"}])
    assert found == {"on images that are not in the image table": ["odd__7"]}


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("task_id", "without an id that is valid as a file name"),
        ("image_id", "on images that are not in the image table"),
        ("phrase", "without a phrase"),
        ("Polygons", "with malformed polygons"),
    ],
)
def test_tasks_with_missing_keys_are_skipped(tmp_path, key, reason):
    broken = task(7, 1, "odd")
    del broken[key]
    assert skipped(tmp_path, [broken]) == {reason: ["None" if key == "task_id" else "1__7"]}


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "", " "])
def test_tasks_with_invalid_ids_are_skipped(tmp_path, name):
    found = skipped(tmp_path, [task(7) | {"task_id": name}])
    assert found == {"without an id that is valid as a file name": [repr(name)]}


def test_tasks_with_duplicate_ids_are_skipped(tmp_path):
    assert skipped(tmp_path, [GOOD[0]]) == {"with a duplicate id": ["1__0"]}


def test_tasks_on_missing_unreadable_or_resized_photos_are_skipped(tmp_path):
    photos = range(1, 31)  # up to a tenth of the photos may be missing
    folder = write_phrasecut(tmp_path, [], photos)
    (folder / "images" / "3.jpg").unlink()
    (folder / "images" / "4.jpg").write_text("no photo")
    Image.new("RGB", (24, 32)).save(folder / "images" / "5.jpg")  # sides exchanged
    tasks = [task(7, image) for image in photos]
    (folder / "refer_train.json").write_text(json.dumps(tasks))
    source = PhraseCut(tmp_path, "train")
    assert len(source) == 27
    assert source.index.skipped == {
        "on photos that are missing or unreadable": ["3__7", "4__7"],
        "on photos that differ from their annotated size": ["5__7"],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"task_id": 1}', "not a JSON list of tasks"),
        ("", "truncated or not JSON"),
        ("[1, 2]", "not a JSON list of tasks"),
        ("[[]]", "not a JSON list of tasks"),
        (json.dumps(GOOD)[:-30], "truncated or not JSON"),
        (json.dumps(GOOD)[:-1], "truncated or not JSON"),
        (json.dumps(GOOD).replace(":", "=", 1), "truncated or not JSON"),
        ("[]", "no usable task among 0; skipped: none"),
    ],
)
def test_malformed_task_file_is_an_error(tmp_path, text, message):
    folder = write_phrasecut(tmp_path, [])
    (folder / "refer_train.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        PhraseCut(tmp_path, "train")
    assert str(folder / "refer_train.json") in str(error.value)


@pytest.mark.parametrize("text", ["", "[", "{}x", '[{"image_id": 1}]', "[5]", "7", "null"])
def test_malformed_image_table_is_an_error(tmp_path, text):
    folder = write_phrasecut(tmp_path, GOOD)
    (folder / "image_data_split.json").write_text(text)
    with pytest.raises(ValueError, match="not a PhraseCut image table") as error:
        PhraseCut(tmp_path, "train")
    assert str(folder / "image_data_split.json") in str(error.value)


@pytest.mark.parametrize("height", [None, "24", [1], -5, 0, 24.0, True])
def test_invalid_image_size_is_an_error(tmp_path, height):
    folder = write_phrasecut(tmp_path, GOOD)
    table = folder / "image_data_split.json"
    rows = json.loads(table.read_text())
    rows[1]["height"] = height
    table.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="image 2 has invalid height and width") as error:
        PhraseCut(tmp_path, "train")
    assert str(table) in str(error.value)


def test_error_without_usable_tasks_gives_counts_not_ids(tmp_path):
    write_phrasecut(tmp_path, [task(i, phrase="") for i in range(2000)])
    with pytest.raises(ValueError, match="skipped: 2000 without a phrase") as error:
        PhraseCut(tmp_path, "train")
    assert len(str(error.value)) < 500


def test_incomplete_photo_folder_is_an_error(tmp_path):
    photos = range(1, 31)
    folder = write_phrasecut(tmp_path, [task(7, image) for image in photos], photos)
    for image in range(4, 31):
        (folder / "images" / f"{image}.jpg").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"27 of the 30 .* photos .*4\.jpg") as error:
        PhraseCut(tmp_path, "train")
    assert str(folder / "images") in str(error.value)
