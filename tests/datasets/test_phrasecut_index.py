"""The index of PhraseCut, compared with its JSON files."""

import json
import pickle
from collections import defaultdict

import numpy as np
import pytest

from datamodules.datasets.phrasecut import PhraseCut, PhraseCutIndex
from datamodules.datasets.phrasecut_build import BAD_IMAGES
from tests.datasets.written import SQUARE, task, write_phrasecut

TRIANGLE = [[1.1, 2.2], [9.99, 2.0], [5.0, 110.00000000000001 / 10]]
TASKS = [
    task(0, 2, "grüne Äpfel, 緑のリンゴ 🍏"),
    task(1, 1, "red square", [[TRIANGLE], [TRIANGLE[::-1], SQUARE[0][0]]]),
    task(2, 3, "red square"),
    task(3, 2, "Red square"),
    task(4, 2, "red square", [[[[0.0, 0.0], [4.0, 4.0]], TRIANGLE]]),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    write_phrasecut(root, TASKS)
    return root


@pytest.fixture(params=["written", "miniature"])
def source_and_tasks(request):
    root = request.getfixturevalue(request.param)
    tasks = json.loads((root / "VGPhraseCut_v0" / "refer_train.json").read_text())
    return PhraseCut(root, "train"), tasks


def test_every_task_equals_its_json_entry(source_and_tasks):
    source, tasks = source_and_tasks
    table = {1: (24, 32), 2: (24, 32), 3: (24, 32)}
    assert len(source) == len(tasks)
    for position, plain in enumerate(tasks):
        assert source.name(position) == plain["task_id"]
        assert source.phrases[source.phrase(position)] == plain["phrase"]
        row = source.index.task_image[position]
        assert source.index.image_id[row] == plain["image_id"]
        size = tuple(source.index.image_size[row])
        assert size == table.get(plain["image_id"], (60, 80))
        assert source.image(position).shape == (*size, 3)
        flat = [polygon for instance in plain["Polygons"] for polygon in instance]
        # exact, because the official evaluator truncates coordinates
        assert [polygon.tolist() for polygon in source.index.polygons(position)] == flat


def test_lookups_equal_a_plain_loop(source_and_tasks):
    source, tasks = source_and_tasks
    by_phrase, by_image = defaultdict(list), defaultdict(list)
    for position, plain in enumerate(tasks):
        by_phrase[plain["phrase"]].append(position)
        by_image[plain["image_id"]].append(position)
    assert len(source.phrases) == len(by_phrase)
    for position, plain in enumerate(tasks):
        same = source.tasks_of_phrase(source.phrase(position))
        assert same.tolist() == by_phrase[plain["phrase"]]
        seen = {source.phrases[phrase] for phrase in source.possible_phrases(position)}
        assert seen == {tasks[i]["phrase"] for i in by_image[plain["image_id"]]}
        assert source.tasks_of_image(position).tolist() == by_image[plain["image_id"]]


def test_phrases_are_case_sensitive(written):
    source = PhraseCut(written, "train")
    assert [source.tasks_of_phrase(source.phrase(i)).tolist() for i in (1, 3)] == [[1, 2, 4], [3]]


def test_images_with_wrong_published_sizes_are_skipped(tmp_path, caplog):
    assert len(BAD_IMAGES) == 17
    bad = sorted(BAD_IMAGES)
    tasks = [task(i, image, f"thing {i}") for i, image in enumerate([*bad, 1, 2])]
    write_phrasecut(tmp_path, tasks, [*bad, 1, 2])
    source = PhraseCut(tmp_path, "train")
    assert [source.name(i) for i in range(len(source))] == ["1__17", "2__18"]
    assert list(source.phrases) == ["thing 17", "thing 18"]
    (names,) = source.index.skipped.values()
    assert names == [plain["task_id"] for plain in tasks[:17]]
    assert "skipped tasks: 17 on images with wrong sizes" in caplog.text


def test_arrays_are_memory_mapped(written):
    index = PhraseCut(written, "train").index
    values = [*vars(index).values(), *vars(index.polygons).values()]
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    arrays += [index.phrases.text, index.phrases.offsets, index.task_id.text]
    assert len(arrays) == 11
    assert all(isinstance(array, np.memmap) and array.mode == "r" for array in arrays)


def test_pickled_index_is_mapped_again_not_copied(written):
    source = PhraseCut(written, "train")
    copy = pickle.loads(pickle.dumps(source))
    assert isinstance(copy.index, PhraseCutIndex)
    assert isinstance(copy.index.polygons.points, np.memmap)
    assert [copy.name(i) for i in range(len(copy))] == [source.name(i) for i in range(len(source))]


@pytest.mark.parametrize("table", ["image_data_split.json", "image_data_split3000.json"])
def test_both_names_of_the_image_table_are_found(tmp_path, table):
    write_phrasecut(tmp_path, TASKS, table=table)
    assert len(PhraseCut(tmp_path, "train")) == len(TASKS)


def test_no_task_of_real_photos_is_skipped(real_data):
    counts = {"train": 402, "val": 147, "test": 161}
    for split, count in counts.items():
        source = PhraseCut(real_data / "phrasecut_coco", split)
        assert len(source) == count and not source.index.skipped
