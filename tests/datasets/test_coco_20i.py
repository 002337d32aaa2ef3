"""COCO-20i: folds, pickled lists and training tasks (one class in one photo each)."""

import os
import pickle
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from datamodules.datasets.coco_20i import COCO_CLASSES, COCOTasks, fold_classes, read_fold
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.labelled import open_coco


def write_list(root, content: object, part="val", fold=0):
    folder = root / "splits" / "coco" / part
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"fold{fold}.pkl").write_bytes(
        content if isinstance(content, bytes) else pickle.dumps(content)
    )


def test_folds_hold_out_every_fourth_class():
    assert len(COCO_CLASSES) == len(set(COCO_CLASSES)) == 80
    assert Counter(c for fold in range(4) for c in fold_classes(fold)) == Counter(range(80))
    assert fold_classes(3)[:2] == [3, 7]
    assert [COCO_CLASSES[c] for c in fold_classes(0)[:3]] == ["person", "airplane", "boat"]


@pytest.mark.parametrize("fold", [-1, 4])
def test_unknown_folds_raise(fold):
    with pytest.raises(ValueError, match=f"fold must be 0 to 3, not {fold}"):
        fold_classes(fold)


def test_lists_are_read_by_class_without_file_suffix(tmp_path):
    content = {c: [f"val2014/COCO_{c}.jpg"] if c % 4 == 0 else [] for c in range(80)}
    write_list(tmp_path, content)
    listed = read_fold(tmp_path, "val", 0)
    assert list(listed) == fold_classes(0) and listed[8] == ["val2014/COCO_8"]
    write_list(tmp_path, {c: [] for c in range(80)}, part="trn")
    assert set(read_fold(tmp_path, "trn", 0)) == set(range(80)) - set(fold_classes(0))


class RunsCode:
    """Runs a shell command when unpickled."""

    def __reduce__(self):
        return os.system, ("exit 3",)


@pytest.mark.parametrize(
    "content",
    [
        *(RunsCode(), pickle.dumps({0: [RunsCode()]}), b"no pickle", b""),
        *([1, 2], {0: 5}, {81: ["a.jpg"]}, {0: ["../up.jpg"]}, {0: ["/etc/a.jpg"]}),
        b"\x80\x04r\xff\xff\xff\x7f.",  # makes Python's C unpickler allocate gigabytes
    ],
)
def test_invalid_lists_raise_and_run_no_code(tmp_path, content):
    write_list(tmp_path, content)
    with pytest.raises(ValueError, match=r"fold0\.pkl"):
        read_fold(tmp_path, "val", 0)


def test_missing_list_raises_and_names_the_source(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="hsnet"):
        read_fold(tmp_path, "val", 2)


@pytest.fixture
def tasks(tmp_path):
    for part in ("train2014", "val2014"):
        (tmp_path / "COCO2014" / part).mkdir(parents=True)
        (tmp_path / "COCO2014" / "annotations" / part).mkdir(parents=True)
    labels = np.zeros((6, 8), np.uint8)
    labels[:3], labels[5] = 2, 80
    for name in ("a", "b"):
        Image.new("RGB", (8, 6)).save(tmp_path / "COCO2014" / "train2014" / f"{name}.jpg")
        file = tmp_path / "COCO2014" / "annotations" / "train2014" / f"{name}.png"
        Image.fromarray(labels).save(file)
    listed = {1: ["train2014/a", "train2014/b"], 2: [], 79: ["train2014/b"]}
    return COCOTasks(open_coco(tmp_path), listed)


def test_each_class_in_each_photo_is_a_task(tasks):
    assert len(tasks) == 3 and list(tasks.phrases) == ["bicycle", "toothbrush"]
    assert [tasks.phrases[tasks.phrase(task)] for task in range(3)] == [
        *("bicycle", "bicycle", "toothbrush"),
    ]
    assert tasks.mask(1)[:3].all() and not tasks.mask(1)[3:].any()
    assert tasks.mask(2)[5].all() and tasks.mask(2).sum() == 8
    assert tasks.tasks_of_phrase(0).tolist() == [0, 1]
    assert tasks.tasks_of_image(1).tolist() == [1, 2]
    assert tasks.possible_phrases(0).tolist() == [0]
    assert sorted(tasks.possible_phrases(2).tolist()) == [0, 1]
    assert len({tasks.name(task) for task in range(3)}) == 3


def test_real_lists_match_the_label_maps(real_data):
    root = real_data / "coco20i_mini"
    photos = open_coco(root)
    for fold in range(4):
        for class_id, names in read_fold(root, "val", fold).items():
            for name in names[:2]:
                assert (photos.labels(name) == class_id + 1).any()
                assert photos.image(name).shape[:2] == photos.labels(name).shape
