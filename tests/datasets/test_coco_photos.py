"""COCO ids of photos, and leaving the photos of benchmarks out of training."""

import json
import pickle

import numpy as np
import pytest

from datamodules.coco_20i import COCO20iDataModule
from datamodules.datasets.coco_photos import coco_id
from datamodules.datasets.exclusion import EVALUATED_PHOTOS, photos_of
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.image_folder import ImageFolderDataModule, Table
from datamodules.lvis_names import LVISNamesDataModule
from datamodules.lvis_prompts import LVISPromptsDataModule
from datamodules.pascal_5i import Pascal5iDataModule
from datamodules.phrasecut import PhraseCutDataModule
from tests.datasets.own import SQUARE, write_csv, write_mask, write_photo
from tests.datasets.shared_photos import ELSEWHERE, SHARED_COCO, SHARED_LVIS, write_shared
from tests.datasets.written import task, write_phrasecut

SIZE = {"image_size": 32, "batch_size": 4, "num_workers": 0}


def test_loaded_photos_keep_their_names(tmp_path):
    """The pictures of an evaluation name the photo, also if it is one of COCO's."""
    for number in (1, 2):
        write_photo(tmp_path / f"{number:012}.jpg")
        write_mask(tmp_path / f"{number}.png", SQUARE)
    rows = [{"image": f"{n:012}.jpg", "mask": f"{n}.png", "phrase": "cat"} for n in (1, 2)]
    write_csv(tmp_path / "table.csv", rows)
    data = ImageFolderDataModule(str(tmp_path), **SIZE, train=Table("table.csv"), val_share=0.5)
    data.setup("validate")
    dataset = data.val_dataloader().dataset
    assert dataset.photo_name(0) == f"{dataset[0, 0]['coco_id']:012}.jpg"


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("COCO_val2014_000000000042.jpg", 42),
        ("COCO_train2014_000000581921.jpg", 581921),
        ("COCO_test2014_000000000001.jpg", 1),
        ("COCO_test2015_000000000001.jpg", 1),
        ("000000000042.jpg", 42),
        ("data/val2017/000000000042.jpg", 42),
        ("000000000000.jpg", -1),  # COCO's ids begin at 1
        ("42.jpg", -1),
        ("0000000042.jpg", -1),
        ("0000000000042.jpg", -1),
        ("202401311530.jpg", -1),  # a time
        ("000001234567.jpg", -1),
        ("000000000042.png", -1),
        ("000000000042.jpg.png", -1),
        ("000000000042_crop.jpg", -1),
        ("IMG_000000000042.jpg", -1),
        ("COCO_val2017_000000000042.jpg", -1),  # the release of 2017 has no prefix
        ("coco_val2014_000000000042.jpg", -1),
        ("COCO_val2014_42.jpg", -1),
        ("VOC_val2014_000000000042.jpg", -1),
        ("000000000042.jpg/photo.jpg", -1),
        ("00000000004२.jpg", -1),  # a digit, but not ASCII
    ],
)
def test_ids_are_read_from_names_of_coco_only(file, expected):
    assert coco_id(file) == expected


@pytest.fixture(scope="module")
def shared(miniature, tmp_path_factory):
    return write_shared(tmp_path_factory.mktemp("shared"), miniature)


def own_data(root, numbers, **settings):
    """Write a COCO JSON about photos, and return its datamodule."""
    box = {"bbox": [4, 4, 16, 16], "segmentation": [[4, 4, 20, 4, 20, 20, 4, 20]]}
    images, annotations = [], []
    for place, name in enumerate(numbers):
        write_photo(root / "photos" / name, place)
        images.append({"id": place, "height": 24, "width": 32, "file_name": name})
        annotations.append({"id": place, "image_id": place, "category_id": 1, **box})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "dog"}],
    }
    (root / "own.json").write_text(json.dumps(content))
    return ImageFolderDataModule(
        str(root), **SIZE, train=Table("own.json", images="photos"), **settings
    )


# ---- ids of samples


def test_phrasecut_reads_ids_from_its_image_table(shared):
    table = json.loads((shared / "VGPhraseCut_v0" / "image_data_split.json").read_text())
    id_of = {row["image_id"]: row["coco_id"] or -1 for row in table}
    tasks = json.loads((shared / "VGPhraseCut_v0" / "refer_train.json").read_text())
    source = PhraseCut(shared, "train")
    assert source.coco_ids.tolist() == [id_of[task["image_id"]] for task in tasks]
    blue = source.without(lambda phrase: "blue" not in phrase)
    expected = [id_of[task["image_id"]] for task in tasks if "blue" in task["phrase"]]
    assert blue.coco_ids.tolist() == expected and 0 < len(blue) < len(source)


@pytest.mark.parametrize("value", ["42", -3, 4.5, [42], True])
def test_malformed_ids_in_the_image_table_raise(tmp_path, value):
    folder = write_phrasecut(tmp_path, [task(0)])
    table = folder / "image_data_split.json"
    rows = json.loads(table.read_text())
    rows[1]["coco_id"] = value
    table.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"image 2 has coco_id .*, which is neither null nor a p"):
        PhraseCut(tmp_path, "train")


def test_ids_written_as_floats_and_missing_ids_are_accepted(tmp_path):
    folder = write_phrasecut(tmp_path, [task(0, 1), task(1, 2), task(2, 3)])
    table = folder / "image_data_split.json"
    rows = json.loads(table.read_text())
    rows[0]["coco_id"], rows[1]["coco_id"] = 42.0, 0
    table.write_text(json.dumps(rows))
    assert PhraseCut(tmp_path, "train").coco_ids.tolist() == [42, -1, -1]


def test_coco_20i_and_lvis_have_the_ids_of_their_photos(miniature):
    coco = COCO20iDataModule(str(miniature), **SIZE)
    names, prompts = (
        kind(str(miniature), **SIZE) for kind in (LVISNamesDataModule, LVISPromptsDataModule)
    )
    for data, stage in ((coco, "fit"), (names, "fit"), (prompts, "validate")):
        data.setup(stage)
    trained, evaluated = coco.datasets["train"].source, coco.datasets["val"]
    assert coco.coco_ids("train").tolist() == [int(name[-12:]) for name, _ in trained.pairs]
    queries = [int(episode.query[-12:]) for episode in evaluated.episodes]
    assert coco.coco_ids("val").tolist() == queries
    for data, pairs in ((names, names.datasets["val"].source), (prompts, prompts.datasets["val"])):
        assert data.coco_ids("val").tolist() == [pair.image for pair in pairs.pairs]


def test_photos_of_voc_and_unnumbered_photos_have_no_ids(miniature, tmp_path):
    voc = Pascal5iDataModule(str(miniature), **SIZE)
    own = own_data(tmp_path, ["a.jpg", "42.jpg", "photo_000000000042.jpg"])
    for data in (voc, own):
        data.setup("validate")
        assert data.coco_ids("val") is None
        assert next(iter(data.val_dataloader()))["coco_id"].eq(-1).all()


def test_own_photos_with_names_of_coco_have_ids(tmp_path):
    names = ["COCO_val2014_000000000042.jpg", "dog.jpg", "000000000007.jpg", "000000000008.jpg"]
    data = own_data(tmp_path, names, val_share=0.3)
    data.setup("fit")
    expected = {"COCO_val2014_000000000042.jpg": 42, "dog.jpg": -1}
    expected |= {"000000000007.jpg": 7, "000000000008.jpg": 8}
    for split in ("train", "val"):
        dataset = data.datasets[split]
        photos = [dataset.photo_name(sample) for sample in range(len(dataset))]
        assert dataset.coco_ids.tolist() == [expected[photo] for photo in photos]


def test_batches_contain_the_ids_of_their_photos(shared):
    data = PhraseCutDataModule(str(shared), **SIZE)
    data.setup("fit")
    ids = [i for batch in data.val_dataloader() for i in batch["coco_id"].tolist()]
    assert ids == data.coco_ids("val").tolist()
    assert set(ids) == {45, 46, -1}


# ---- leaving photos out of training


def test_photos_of_benchmarks_are_those_of_all_lists(miniature):
    assert set(EVALUATED_PHOTOS) >= {"coco_20i", "lvis"}
    coco = set()
    for file in (miniature / "splits" / "coco" / "val").glob("*.pkl"):
        for names in pickle.loads(file.read_bytes()).values():
            coco |= {int(name[-16:-4]) for name in names}
    lvis = json.loads((miniature / "LVIS" / "lvis_v1_val.json").read_text())["images"]
    lvis = {image["id"] for image in lvis}
    assert photos_of(["coco_20i"], miniature).tolist() == sorted(coco)
    assert photos_of(["lvis", "coco_20i"], miniature).tolist() == sorted(lvis | coco)
    assert set(SHARED_COCO) <= coco and set(SHARED_LVIS) <= lvis


def test_photos_are_left_out_of_phrasecut_as_queries_and_supports(shared):
    kept, every = (
        PhraseCutDataModule(str(shared), **SIZE, without_photos_of=names)
        for names in (["coco_20i", "lvis"], None)
    )
    for data in (kept, every):
        data.setup("fit")
    ids, shared_ids = every.coco_ids("train"), {*photos_of(["coco_20i", "lvis"], shared).tolist()}
    assert {*SHARED_COCO, *SHARED_LVIS} <= shared_ids and ELSEWHERE not in shared_ids
    expected = [int(i) for i in ids if i not in shared_ids]
    assert kept.datasets["train"].coco_ids.tolist() == expected
    assert (kept.photos_left_out, every.photos_left_out) == (6, None)
    assert kept.skipped["train"] == {"on photos of coco_20i, lvis": 6 * 3}
    assert kept.coco_ids("val").tolist() == every.coco_ids("val").tolist()
    source = kept.datasets["train"].source
    for phrase in range(len(source.phrases)):
        partners = source.tasks_of_phrase(phrase)
        assert not set(source.coco_ids[partners].tolist()) & shared_ids


def test_photos_are_left_out_of_own_data(miniature, tmp_path):
    for name in ("COCO2014", "splits"):
        (tmp_path / name).symlink_to(miniature / name)
    names = ["COCO_val2014_000000000041.jpg", "000000000042.jpg", "000000581929.jpg"]
    others = [f"{number}.jpg" for number in range(41, 45)]  # not COCO's
    write_photo(tmp_path / "val" / "a.jpg", 99)
    (tmp_path / "val.csv").write_text("image,mask,phrase\nval/a.jpg,val/a.jpg,dog\n")
    settings = {"val": Table("val.csv"), "without_photos_of": ["coco_20i"]}
    data = own_data(tmp_path, [*names, *others], **settings)
    data.setup("fit")
    dataset = data.datasets["train"]
    photos = {dataset.photo_name(sample) for sample in range(len(dataset))}
    assert photos == {*others, "000000581929.jpg"}
    assert data.photos_left_out == data.skipped["train"]["on photos of coco_20i"] == 2


@pytest.mark.parametrize("kind", [COCO20iDataModule, LVISNamesDataModule])
def test_photos_of_an_added_benchmark_are_left_out(miniature, kind, monkeypatch):
    monkeypatch.setitem(EVALUATED_PHOTOS, "few", lambda root: range(1, 6))
    plain, kept = (kind(str(miniature), **SIZE, without_photos_of=names) for names in ([], ["few"]))
    for data in (plain, kept):
        data.setup("fit")
    before, after = (set(data.coco_ids("train").tolist()) for data in (plain, kept))
    assert before - after == before & {1, 2, 3, 4, 5} and len(after) > 20
    assert kept.photos_left_out == len(before - after) >= 4
    skipped = sum(number <= 5 for number in plain.coco_ids("train"))
    assert kept.skipped[kept.split_name("train")] == {"on photos of few": skipped}


def test_training_without_remaining_photos_raises(shared, tmp_path):
    folder = write_phrasecut(tmp_path, [task(0, 1), task(1, 2)])
    write_phrasecut(tmp_path, [task(0, 3)], split="val")
    table = folder / "image_data_split.json"
    rows = json.loads(table.read_text())
    table.write_text(json.dumps([{**row, "coco_id": 41} for row in rows]))
    for name in ("COCO2014", "splits"):
        (tmp_path / name).symlink_to(shared / name)
    data = PhraseCutDataModule(str(tmp_path), **SIZE, without_photos_of=["coco_20i"])
    with pytest.raises(ValueError, match=r"nothing to train on: .* skipped: 2 on photos of coco"):
        data.setup("fit")


def test_unknown_and_missing_benchmarks_raise(miniature, tmp_path):
    with pytest.raises(ValueError, match="unknown benchmark coco, voc; choose from coco_20i"):
        PhraseCutDataModule(str(miniature), **SIZE, without_photos_of=["voc", "coco", "lvis"])
    write_phrasecut(tmp_path, [task(0)])
    data = PhraseCutDataModule(str(tmp_path), **SIZE, without_photos_of=["coco_20i"])
    with pytest.raises(DatasetNotFoundError, match="COCO-20i"):
        data.setup("fit")


def test_real_photos_are_left_out(real_data, tmp_path):
    (tmp_path / "VGPhraseCut_v0").symlink_to(real_data / "phrasecut_coco" / "VGPhraseCut_v0")
    mini = real_data / "coco20i_mini"
    for folder in mini.iterdir():
        (tmp_path / folder.name).symlink_to(folder)
    table = json.loads((tmp_path / "VGPhraseCut_v0" / "image_data_split.json").read_text())
    trained = {row["coco_id"] for row in table if row["split"] == "train"}
    listed = {
        int(name[-16:-4])
        for file in mini.glob("splits/coco/val/*.pkl")
        for names in pickle.loads(file.read_bytes()).values()
        for name in names
    }
    data = PhraseCutDataModule(str(tmp_path), **SIZE, without_photos_of=["coco_20i"])
    data.setup("fit")
    assert data.photos_left_out == len(trained & listed) > 0
    assert set(np.unique(data.coco_ids("train"))) == trained - listed
