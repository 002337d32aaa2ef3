import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from datamodules.toy.language.captions import draw_phrases
from datamodules.toy.scenes.kinds import KINDS, UNNAMED_KINDS
from datamodules.toy.scenes.paint import polygons_of
from datamodules.toy.scenes.scene import draw_scene
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.phrasecut import PHRASECUT_SPLITS, draw_phrasecut, phrasecut_request

SCENES = {"train": 12, "val": 3, "test": 3, "miniv": 2}
SIZE = (72, 96)
KEYS = {
    "task_id",
    "image_id",
    "ann_ids",
    "instance_boxes",
    "Polygons",
    "phrase",
    "phrase_structure",
}


def fill_as_phrasecut(polygons, shape):
    """Rasterise polygons as PhraseCut's official evaluation does."""
    mask = np.zeros(shape, bool)
    for polygon in polygons:
        canvas = Image.new("L", shape[::-1])
        ImageDraw.Draw(canvas).polygon([(int(x), int(y)) for x, y in polygon], outline=1, fill=1)
        mask |= np.asarray(canvas) > 0
    return mask


def fill_as_coco(polygons, shape):
    flat = [[value for point in polygon for value in point] for polygon in polygons]
    return coco.decode(coco.merge(coco.frPyObjects(flat, *shape))).astype(bool)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    return build_folders(root, phrasecut_request(SCENES, 7, SIZE), progress=False)


def load(folder, name):
    return json.loads((folder / name).read_text())


def test_photos_and_annotations_have_the_layout_of_phrasecut(folder):
    table = load(folder, "image_data_split.json")
    assert folder.name == "VGPhraseCut_v0"
    assert len(table) == sum(SCENES.values()) == len(list((folder / "images").iterdir()))
    assert set(table[0]) == {"image_id", "coco_id", "flickr_id", "width", "height", "url", "split"}
    for row in table:
        image = cv2.imread(str(folder / "images" / f"{row['image_id']}.jpg"))
        assert image.shape == (row["height"], row["width"], 3) == (72, 96, 3)
    for split in PHRASECUT_SPLITS:
        tasks = load(folder, f"refer_{split}.json")
        ids = {row["image_id"] for row in table if row["split"] == split}
        assert len(ids) == SCENES[split]
        assert {task["image_id"] for task in tasks} == ids
        assert len({task["task_id"] for task in tasks}) == len(tasks)
        for task in tasks:
            assert set(task) == KEYS
            anns = "_".join(str(ann) for ann in task["ann_ids"])
            assert task["task_id"] == f"{task['image_id']}__{anns}"
            assert len(task["instance_boxes"]) == len(task["Polygons"]) == len(task["ann_ids"])
            for instance in task["Polygons"]:
                for polygon in instance:
                    assert np.asarray(polygon).shape[1:] == (2,) and len(polygon) >= 3


@pytest.mark.parametrize("split", PHRASECUT_SPLITS)
def test_training_split_shows_but_does_not_name_the_unnamed_kinds(split):
    drawn = [draw_phrasecut(0, split, index, (64, 64)) for index in range(300)]
    kinds = {thing.kind for scene, _ in drawn for thing in scene.things}
    texts = [phrase.text for _, phrases in drawn for phrase in phrases]
    named = {word for text in texts for word in text.split()}
    assert len(kinds.intersection(UNNAMED_KINDS)) > 12
    assert len(named.intersection(KINDS)) > 60
    if split == "train":
        assert not named.intersection(UNNAMED_KINDS) and "thing" in named
    else:
        assert len(named.intersection(UNNAMED_KINDS)) > 8 and "thing" not in named


def test_vocabulary_counts_are_sorted(folder):
    counts = load(folder, "name_att_rel_count.json")
    tasks = [task for split in PHRASECUT_SPLITS for task in load(folder, f"refer_{split}.json")]
    assert set(counts) == {"cat", "att", "rel"}
    assert sum(count for _, count in counts["cat"]) == len(tasks)
    for pairs in counts.values():
        assert [count for _, count in pairs] == sorted((count for _, count in pairs), reverse=True)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
@pytest.mark.parametrize("fill", [fill_as_phrasecut, fill_as_coco])
def test_polygons_reproduce_masks_with_both_rasterizers(fill):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = draw_scene(
            rng,
            128,
            kinds=("bicycle", "person", "chair", "tvmonitor") if seed % 2 else ("train", "sheep"),
        )
        for phrase in draw_phrases(scene, rng):
            for mask in phrase.masks(scene):
                filled = fill(polygons_of(mask), mask.shape)
                assert (filled & mask).sum() > 0.95 * (filled | mask).sum(), phrase


def test_polygons_reproduce_a_mask_with_holes_and_specks_exactly():
    mask = np.zeros((40, 50), bool)
    mask[3:30, 3:40] = True
    mask[8:12, 8:14] = mask[20:25, 10:30] = False
    mask[22, 20] = mask[38, 48] = True
    assert np.array_equal(fill_as_phrasecut(polygons_of(mask), mask.shape), mask)


def read_all(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_equal_seeds_give_equal_files(folder, tmp_path):
    again = build_folders(tmp_path / "a", phrasecut_request(SCENES, 7, SIZE), progress=False)
    other = build_folders(tmp_path / "b", phrasecut_request(SCENES, 8, SIZE), progress=False)
    assert read_all(again) == read_all(folder)
    assert (other / "images/1.jpg").read_bytes() != (folder / "images/1.jpg").read_bytes()


def test_build_folders_reuses_an_equal_world_and_rejects_another(folder):
    before = (folder / "refer_train.json").stat().st_mtime_ns
    same = phrasecut_request(SCENES, 7, SIZE)
    assert build_folders(folder.parent, same, progress=False) == folder
    assert (folder / "refer_train.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="another root"):
        build_folders(folder.parent, phrasecut_request(SCENES, 7, 64), progress=False)


def test_build_folders_never_touches_real_data(tmp_path):
    (tmp_path / "VGPhraseCut_v0").mkdir()
    with pytest.raises(FileExistsError, match="did not write"):
        build_folders(tmp_path, phrasecut_request(SCENES, 0), progress=False)
    assert not list((tmp_path / "VGPhraseCut_v0").iterdir())


@pytest.mark.slow
def test_two_processes_that_build_at_once_share_one_folder(tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        request = phrasecut_request({"train": 20}, 0, 64)
        jobs = [pool.submit(build_folders, tmp_path, request, False) for _ in range(2)]
        first, second = (job.result() for job in jobs)
    assert first == second and len(list((first / "images").iterdir())) == 20
    assert [path.name for path in tmp_path.glob("[!.]*")] == ["VGPhraseCut_v0"]


def test_interrupted_build_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("datamodules.toy.writers.phrasecut._tasks", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_folders(tmp_path, phrasecut_request(SCENES, 0, 64), progress=False)
    assert not list(tmp_path.glob("[!.]*"))


def test_some_images_have_a_phrase_for_everything_but_things():
    count = 0
    for index in range(200):
        scene, phrases = draw_phrasecut(0, "train", index, (64, 64))
        things = np.any([np.zeros((64, 64), bool), *(thing.mask for thing in scene.things)], 0)
        for phrase in phrases:
            if phrase.text == "background":
                (mask,) = phrase.masks(scene)
                assert (mask == ~things).all() and phrase.type == "name"
                count += 1
    assert 15 <= count <= 45
