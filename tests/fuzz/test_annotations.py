"""Annotations in JSON: PhraseCut's tasks and image table, COCO's, LVIS's."""

import json

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.phrasecut import PhraseCut
from tests.datasets.test_lvis import TRAIN, write
from tests.datasets.written import SIZE, SQUARE, task, write_phrasecut
from tests.fuzz.contained import inputs, try_out
from tests.fuzz.mutated import json_files

FLAT = np.ravel(SQUARE).tolist()
RUNS = {"size": [*SIZE], "counts": [100, 20, 648]}
TEXT = {"size": [*SIZE], "counts": "T3d0X4"}  # the same, as COCO's text
COCO = {
    "images": [
        {"id": 1, "file_name": "1.jpg", "height": SIZE[0], "width": SIZE[1]},
        {"id": 2, "file_name": "2.jpg", "height": SIZE[0], "width": SIZE[1]},
    ],
    "categories": [{"id": 7, "name": "traffic_light"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 7, "segmentation": [FLAT]},
        {"id": 2, "image_id": 2, "caption": "a car", "segmentation": RUNS, "iscrowd": 1},
        {"id": 3, "image_id": 2, "category_id": 7, "segmentation": TEXT, "iscrowd": 1},
    ],
}
# points far away and outlines without end
FAR = st.floats(-1e9, 1e9) | st.sampled_from([-9e4, 9e4, 1e5, 1e308, 0.0])


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "cache"))


@inputs
def test_tasks_of_phrasecut(tmp_path, inputs, cache):
    folder = write_phrasecut(tmp_path, [])
    valid = [task(0, 1), task(1, 2, "a dog"), task(2, 3, "a dog", [*SQUARE, *SQUARE])]

    def read(content):
        (folder / "refer_train.json").write_bytes(content)
        source = PhraseCut(tmp_path, "train")
        for number in range(len(source)):
            assert source.image(number).shape[:2] == source.mask(number).shape == SIZE
            assert source.mask(number).any() and source.name(number)

    try_out(read, json_files(valid), inputs)


@inputs
def test_image_table_of_phrasecut(tmp_path, inputs, cache):
    folder = write_phrasecut(tmp_path, [task(0, 1), task(1, 2), task(1, 3)])
    table = folder / "image_data_split.json"
    valid = json.loads(table.read_text())

    def read(content):
        table.write_bytes(content)
        source = PhraseCut(tmp_path, "train")
        assert all(source.mask(number).shape == SIZE for number in range(len(source)))

    try_out(read, json_files(valid), inputs)


@inputs
def test_annotations_of_coco(tmp_path, inputs):
    for number in (1, 2):
        Image.new("RGB", SIZE[::-1]).save(tmp_path / f"{number}.jpg")

    def read(content):
        (tmp_path / "coco.json").write_bytes(content)
        found = read_coco(tmp_path / "coco.json", tmp_path)
        for row in range(len(found.photo)):
            assert found.masks(row).shape == tuple(found.sizes[found.photo[row]])
            assert found.masks(row).any()

    try_out(read, json_files(COCO), inputs)


@inputs
@pytest.mark.parametrize("kind", ["polygons", "runs", "text"])
def test_segmentations_of_coco(tmp_path, inputs, kind):
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "1.jpg")
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "2.jpg")
    segmentations = {
        "polygons": st.lists(st.lists(FAR, max_size=300), max_size=4),
        "runs": st.lists(st.integers(0, 2**64) | st.integers(-2, 800), max_size=9).map(
            lambda counts: {"size": [*SIZE], "counts": counts}
        ),
        "text": st.text("0123OPQopqTXd4~", max_size=30).map(
            lambda counts: {"size": [*SIZE], "counts": counts}
        ),
    }

    def read(segmentation):
        content = {
            **COCO,
            "annotations": [{**COCO["annotations"][0], "segmentation": segmentation}],
        }
        (tmp_path / "coco.json").write_text(json.dumps(content))
        found = read_coco(tmp_path / "coco.json", tmp_path)
        assert found.masks(0).shape == SIZE

    try_out(read, segmentations[kind], inputs)


@inputs
def test_annotations_of_lvis(tmp_path, inputs):
    write(tmp_path)

    def read(content):
        (tmp_path / "LVIS" / "lvis_v1_train.json").write_bytes(content)
        source = LVIS(tmp_path, ["train"])
        for pair in source.pairs:
            assert source.mask(pair).ndim == 2 and source.area(pair) >= 0
            assert (tmp_path / "LVIS") in source.photo_file(pair.image).resolve().parents
            source.photo(pair.image)

    try_out(read, json_files(TRAIN), inputs)
