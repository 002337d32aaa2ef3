"""The RefCOCO family: published layouts, training samples, bad input, real photos."""

import json
import pickle
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.sample import collate
from datamodules.datasets.exclusion import photos_of
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import Prompting
from datamodules.datasets.refcoco import RefCOCO
from datamodules.refcoco import RefCOCODataModule
from tests.command import EXPERIMENTS, arguments, results, run
from tests.weights.test_clip_weights import Bomb

HEIGHT, WIDTH = 30, 40
SIZE = {"image_size": 32, "batch_size": 2, "num_workers": 0}
PHOTO = "COCO_train2014_{:012d}.jpg"
FIRST = PHOTO.format(1)


def rectangle(left, top, right, bottom):
    """Return a polygon that covers rows top to bottom - 1 and columns left to right - 1."""
    return [left, top, right, top, right, bottom, left, bottom]


def area(left, top, right, bottom):
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


LEFT, RIGHT, SMALL = (2, 3, 12, 20), (25, 5, 38, 28), (0, 0, 3, 2)
TOP_ROWS = {"size": [HEIGHT, WIDTH], "counts": [0] + [4, HEIGHT - 4] * WIDTH}
ANNOTATIONS = [  # id, photo, category, segmentation, iscrowd
    (11, 1, 1, [rectangle(*LEFT)], 0),
    (12, 1, 1, [rectangle(*RIGHT), rectangle(*SMALL)], 0),
    (21, 2, 1, [rectangle(*LEFT)], 0),
    (22, 2, 3, TOP_ROWS, 1),
    (31, 3, 3, [rectangle(*RIGHT)], 0),
    (32, 3, 3, [rectangle(50, 50, 60, 60)], 0),  # outside the photo: empty
]
REFS = [  # id, annotations, photo, category, split, sentences
    (1, 11, 1, 1, "train", ["left man", "man in red"]),
    (2, 12, 1, 1, "train", ["right man"]),
    (3, 21, 2, 1, "train", ["left man"]),
    (4, 22, 2, 3, "train", ["a row of cars", "cars", "the cars"]),
    (5, 31, 3, 3, "val", ["blue car"]),
]


def ref(number, annotations, image, category, split, texts):
    return {
        "ref_id": number,
        "ann_id": annotations,
        "category_id": category,
        "image_id": image,
        "file_name": f"{PHOTO.format(image)[:-4]}_{number}.jpg",
        "split": split,
        "sent_ids": [10 * number + place for place in range(len(texts))],
        "sentences": [
            {"sent_id": 10 * number + place, "sent": text, "raw": text, "tokens": text.split()}
            for place, text in enumerate(texts)
        ],
    }


def write(root, refs=REFS, annotations=ANNOTATIONS, images=(1, 2, 3), dataset="refcoco"):
    folder, photos = root / dataset, root / "images/mscoco/images/train2014"
    folder.mkdir(parents=True, exist_ok=True)
    photos.mkdir(parents=True, exist_ok=True)
    for image in (1, 2, 3):
        pixels = np.full((HEIGHT, WIDTH, 3), 40 * image, np.uint8)
        Image.fromarray(pixels).save(photos / PHOTO.format(image))
    content = {
        "images": [
            {"id": i, "file_name": PHOTO.format(i), "height": HEIGHT, "width": WIDTH}
            for i in images
        ],
        "annotations": [
            dict(zip(("id", "image_id", "category_id", "segmentation", "iscrowd"), a, strict=True))
            for a in annotations
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    made = [ref(*each) for each in refs]
    if dataset == "grefcoco":
        (folder / "grefs(unc).json").write_text(json.dumps(made))
    else:
        (folder / "refs(unc).p").write_bytes(pickle.dumps(made, 2))
    return root


def data_of(root, stage="validate", **settings):
    data = RefCOCODataModule(str(root), **{**SIZE, **settings})
    data.setup(stage)
    return data


# ---- published layouts


def test_evaluation_samples_are_photos_with_all_of_their_sentences(tmp_path):
    write(tmp_path)
    data = data_of(tmp_path, val_split="train", prompting=Prompting(evaluation_form="a {}."))
    first, second = (data.datasets["val"][0, number] for number in range(2))
    assert len(data.datasets["val"]) == 2
    assert [p["phrase"] for p in first["prompts"]] == ["left man", "man in red", "right man"]
    assert first["prompts"][0]["text_prompt"] == "a left man."
    assert [p["prompt_id"] for p in first["prompts"]] == ["1__10", "1__11", "2__20"]
    left, right = area(*LEFT), area(*RIGHT) | area(*SMALL)
    for prompt, target in zip(first["prompts"], (left, left, right), strict=True):
        assert np.array_equal(prompt["query_mask"][0].numpy(), target)
        assert not prompt["negative"] and not prompt["supports"] and prompt["valid_mask"].all()
    assert second["prompts"][1]["query_mask"][0].numpy()[:4].all()
    assert second["prompts"][1]["query_mask"].sum() == 4 * WIDTH
    batch = collate([first, second])
    assert batch["target_size"].tolist() == [[HEIGHT, WIDTH]] * 7
    assert batch["query_image"].shape == (2, 3, 32, 32)
    assert data.summary() == {"train": {"photos": 2, "sentences": 7, "without a target": 0}}


def test_masks_at_the_models_size(tmp_path):
    sample = data_of(write(tmp_path), val_split="train", mask_size="model").datasets["val"][0, 0]
    mask = sample["prompts"][0]["query_mask"]
    assert mask.shape == (1, 32, 32)
    assert float(mask.float().mean()) == pytest.approx(area(*LEFT).mean(), abs=0.02)


def test_targets_of_grefcoco_are_unions_or_nothing(tmp_path):
    refs = [
        (1, [11, 12], 1, [1, 1], "val", ["both men"]),
        (2, [-1], 1, [-1], "val", ["a zebra"]),
        (3, [11], 1, [1], "val", ["left man"]),
        (4, [21, 22], 2, [1, 3], "val", ["man and cars"]),
        (5, [22], 2, [3], "val", ["cars"]),
    ]
    data = data_of(write(tmp_path, refs, dataset="grefcoco"), dataset="grefcoco")
    sample, other = (data.datasets["val"][0, number] for number in range(2))
    both, zebra, left = sample["prompts"]
    union = area(*LEFT) | area(*RIGHT) | area(*SMALL)
    assert np.array_equal(both["query_mask"][0].numpy(), union)
    assert zebra["negative"] and not zebra["query_mask"].any() and not both["negative"]
    assert np.array_equal(left["query_mask"][0].numpy(), area(*LEFT))
    (man_and_cars,) = other["prompts"]  # the crowd is left out, as in GRES
    assert np.array_equal(man_and_cars["query_mask"][0].numpy(), area(*LEFT))
    assert data.skipped["val"] == {"about a crowd": 1}
    assert data.summary()["val"] == {"photos": 2, "sentences": 4, "without a target": 1}


def test_photos_of_coco_2014_come_first(tmp_path):
    write(tmp_path)
    (tmp_path / "COCO2014").mkdir()
    (tmp_path / "images/mscoco/images/train2014").rename(tmp_path / "COCO2014/train2014")
    assert len(data_of(tmp_path).datasets["val"]) == 1


def test_strings_of_python_2_are_read_as_utf_8(tmp_path):
    write(tmp_path)
    file = tmp_path / "refcoco/refs(unc).p"
    # a byte string of Python 2: opcode U and its length
    content = file.read_bytes().replace(b"X\x08\x00\x00\x00blue car", b"U\x09blu\xc3\xa9 car")
    file.write_bytes(content)
    (sample,) = [data_of(tmp_path).datasets["val"][0, 0]]
    assert sample["prompts"][0]["phrase"] == "blué car"


def moondream_row(file_name=FIRST, **changes):
    encoded = coco_mask.encode(np.asfortranarray(area(*LEFT).astype(np.uint8)))
    mask = {"counts": encoded["counts"].decode(), "size": [HEIGHT, WIDTH]}
    sample = {"id": "7", "category": "person", "sentences": ["left man", "Man  in red"]}
    samples = [{**sample, "bbox": [2, 3, 10, 17], "mask": mask, **changes}]
    return {"image_id": 1, "file_name": file_name, "samples": samples}


def write_moondream(root, row):
    write(root)
    (root / "refcoco-m").mkdir(exist_ok=True)
    (root / "refcoco-m/val.jsonl").write_text(json.dumps(row) + "\n")
    return root


def test_refcoco_m_in_json_lines(tmp_path):
    data = data_of(write_moondream(tmp_path, moondream_row()), dataset="refcoco-m")
    (sample,) = [data.datasets["val"][0, 0]]
    assert [p["phrase"] for p in sample["prompts"]] == ["left man", "man in red"]
    assert np.array_equal(sample["prompts"][1]["query_mask"][0].numpy(), area(*LEFT))
    with pytest.raises(ValueError, match=r"no split 'train'; .* val \(2\)"):
        data_of(tmp_path, "fit", dataset="refcoco-m")


def test_refcoco_m_in_parquet(tmp_path, monkeypatch):
    write_moondream(tmp_path, {})
    (tmp_path / "refcoco-m/validation-0.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # not installed
    with pytest.raises(ValueError, match=r"0\.parquet: .* needs pyarrow; pip install pyarrow$"):
        data_of(tmp_path, dataset="refcoco-m")

    class Parquet(ModuleType):
        def read_table(self, file, columns):
            assert file.name == "validation-0.parquet" and len(columns) == 3
            return self

        def to_pylist(self):
            return [moondream_row()]

    pyarrow = ModuleType("pyarrow")
    pyarrow.parquet = Parquet("pyarrow.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", pyarrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", pyarrow.parquet)
    assert len(data_of(tmp_path, dataset="refcoco-m").datasets["val"]) == 1


# ---- training


def test_training_samples_are_whole_photos_of_one_sentence(tmp_path):
    refs = [*REFS, (6, 31, 3, 3, "train", ["x"])]
    data = data_of(write(tmp_path, refs), "fit", phrases_per_image=2)
    train = data.datasets["train"]
    assert data.sizes() == {"train": 8, "val": 1}
    for epoch in range(3):
        sample = train[epoch, 0]
        first, other = sample["prompts"]
        assert first["phrase"] == first["text_prompt"] == "left man" and not first["supports"]
        rows = np.arange(32) * HEIGHT // 32
        columns = np.arange(32) * WIDTH // 32
        assert np.array_equal(first["query_mask"][0].numpy(), area(*LEFT)[rows][:, columns])
        assert other["phrase"] in ("man in red", "right man")


def test_sentences_without_a_target_are_trained_with_an_empty_mask(tmp_path):
    refs = [
        (1, [11], 1, [1], "train", ["left man"]),
        (2, [-1], 1, [-1], "train", ["a zebra"]),
        (3, [31], 3, [3], "val", ["blue car"]),
    ]
    prompting = Prompting(negative_prob=0.0, prefixes="plain", supports=True)
    write(tmp_path, refs, dataset="grefcoco")
    data = data_of(tmp_path, "fit", dataset="grefcoco", prompting=prompting, phrases_per_image=2)
    for task, other in ((0, "a zebra"), (1, "left man")):
        first, second = data.datasets["train"][0, task]["prompts"]
        assert second["phrase"] == other
        assert first["query_mask"].any() == (task == 0) and second["query_mask"].any() == (
            task == 1
        )
        assert not first["supports"] and not second["supports"]  # no other photo has a person


def test_supports_show_the_same_category_in_another_photo(tmp_path):
    write(tmp_path)
    table = RefCOCO(tmp_path, "refcoco", "train")
    names = [[table.name(int(p)) for p in table.partners(t, table.phrase(t))] for t in range(7)]
    of_first, of_second = ["3__30"], ["1__10", "1__11", "2__20"]
    assert names == [of_first] * 3 + [of_second] + [[]] * 3
    prompting = Prompting(negative_prob=0.0, text_weight_max=0.0)
    data = data_of(tmp_path, "fit", prompting=prompting)
    samples = [data.datasets["train"][0, task]["prompts"][0] for task in range(7)]
    assert [len(prompt["supports"]) for prompt in samples] == [1, 1, 1, 1, 0, 0, 0]
    assert [prompt["mix_weight"] for prompt in samples] == [0, 0, 0, 0, 1, 1, 1]


# ---- one encoding per photo


def test_each_photo_is_encoded_once_for_all_of_its_sentences(
    miniature, decoder_file, tmp_path, monkeypatch
):
    encoded, activations = [], CLIPBackbone.activations

    def spy(self, images, layers):
        encoded.append(len(images))
        return activations(self, images, layers)

    monkeypatch.setattr(CLIPBackbone, "activations", spy)
    overlay = EXPERIMENTS / "benchmarks" / "refcoco.yaml"
    weights = f"--model.init_decoder={decoder_file}"
    run(*arguments("validate", miniature, tmp_path, weights, configs=(overlay,)))
    refs = pickle.loads((miniature / "refcoco/refs(unc).p").read_bytes())
    val = [entry for entry in refs if entry["split"] == "val"]
    content = results(tmp_path)
    assert sum(encoded) == len({entry["image_id"] for entry in val}) == 4
    sentences = sum(len(entry["sentences"]) for entry in val)
    assert content["metrics"]["val/text/prompts"] == sentences > 5 * sum(encoded)
    assert content["data"]["val"]["sentences"] == sentences
    assert content["dataset_sizes"] == {"val": 4}


# ---- bad input


def test_unusable_refs_are_skipped_with_counts(tmp_path, caplog):
    refs = [
        *REFS,
        (6, 99, 3, 3, "val", ["no annotation", "none"]),
        (7, 31, 9, 3, "val", ["no photo"]),
        (8, 11, 3, 1, "val", ["of another photo"]),
        (9, 32, 3, 3, "val", ["an empty mask", "empty", "nothing"]),
        (10, 31, 3, 3, "val", [" ", "red car"]),
    ]
    data = data_of(write(tmp_path, refs))
    assert data.skipped["val"] == {
        "whose annotation is missing in instances.json": 2,
        "whose photo is missing in instances.json": 1,
        "whose annotation is about another photo": 1,
        "with an empty mask": 3,
        "without a phrase": 1,
    }
    assert [p["phrase"] for p in data.datasets["val"][0, 0]["prompts"]] == ["blue car", "red car"]
    assert "2 whose annotation is missing in instances.json, 1 whose photo" in caplog.text


def test_a_split_without_usable_refs_is_an_error(tmp_path):
    refs = [(6, 99, 3, 3, "val", ["no annotation", "none"])]
    with pytest.raises(ValueError, match=r"no usable rows; skipped: 2 whose annotation is missing"):
        data_of(write(tmp_path, refs))


def test_unknown_split_lists_the_splits_with_counts(tmp_path):
    listed = r"no split 'testC'; splits and their sentences: train \(7\), val \(1\)$"
    with pytest.raises(ValueError, match=rf"refs\(unc\)\.p: {listed}"):
        data_of(write(tmp_path), val_split="testC")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_by": "umd"}, "split_by of refcoco must be unc or google, not 'umd'"),
        ({"dataset": "coco"}, "dataset must be one of refcoco, .*, not 'coco'"),
        ({"dataset": "refcoco-m", "split_by": "unc"}, "split_by of refcoco-m must be null"),
        ({"mask_size": "large"}, "mask_size must be one of photo, model, not 'large'"),
        ({"phrases_per_image": 0}, "phrases_per_image must be >= 1, not 0"),
    ],
)
def test_invalid_settings_raise(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        data_of(write(tmp_path), **settings)


def test_missing_files_are_named_with_their_source(tmp_path):
    write(tmp_path)
    with pytest.raises(DatasetNotFoundError, match=r"missing refs\(google\)\.p\. .*lichengunc"):
        data_of(tmp_path, split_by="google")
    with pytest.raises(DatasetNotFoundError, match=r"missing \*\.parquet.*moondream/refcoco-m"):
        data_of(tmp_path, dataset="refcoco-m")
    photos = tmp_path / "images/mscoco/images/train2014"
    (photos / PHOTO.format(2)).unlink()
    with pytest.raises(DatasetNotFoundError, match=rf"1 of its 2 photos .*{PHOTO.format(2)}$"):
        data_of(tmp_path, val_split="train")
    assert len(data_of(tmp_path).datasets["val"]) == 1  # val does not need this photo
    photos.rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetNotFoundError, match=r"missing \.\./COCO2014/train2014 "):
        data_of(tmp_path)


def test_evaluated_photos_are_those_of_all_partitions_without_the_training_split(tmp_path):
    write(tmp_path)
    google = [ref(1, 11, 1, 1, "test", ["left man"]), ref(2, 21, 2, 1, "train", ["left man"])]
    (tmp_path / "refcoco/refs(google).p").write_bytes(pickle.dumps(google, 2))
    (tmp_path / "refcoco/._refs(unc).p").write_bytes(b"a file of macOS")
    shutil.rmtree(tmp_path / "images")  # the annotations are enough
    assert photos_of(["refcoco"], tmp_path).tolist() == [1, 3]
    write_moondream(tmp_path, moondream_row() | {"image_id": 2})
    assert photos_of(["refcoco-m"], tmp_path).tolist() == [2]
    with pytest.raises(DatasetNotFoundError, match="grefcoco"):
        photos_of(["grefcoco"], tmp_path)


def test_photo_of_another_size_raises(tmp_path):
    write(tmp_path)
    file = tmp_path / "images/mscoco/images/train2014" / PHOTO.format(3)
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(file)
    with pytest.raises(UnreadableImageError, match=rf"{file}: size is \(31, 40\), annotated as"):
        data_of(tmp_path).datasets["val"][0, 0]


@pytest.mark.parametrize(
    "content",
    [
        *(b"no pickle", b"", b"\x80\x04r\xff\xff\xff\x7f."),
        *(
            pickle.dumps(value)
            for value in ({"a": 1}, [1], [{}], [ref(*REFS[0]) | {"ann_id": "x"}])
        ),
        pickle.dumps([ref(*REFS[0])])[:-20],
    ],
)
def test_damaged_pickles_raise(tmp_path, content):
    write(tmp_path)
    (tmp_path / "refcoco/refs(unc).p").write_bytes(content)
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p: not a list of refs"):
        data_of(tmp_path)


def test_hostile_pickle_is_not_run(tmp_path):
    write(tmp_path)
    content = pickle.dumps([ref(*REFS[0]) | {"split": Bomb(tmp_path / "trace")}])
    (tmp_path / "refcoco/refs(unc).p").write_bytes(content)
    with pytest.raises(ValueError, match=r"not a list of refs .*refers to .*open"):
        data_of(tmp_path)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop("images"), "images"),
        (lambda c: c["images"][2].update(file_name="../up.jpg"), "'../up.jpg' is not the name of"),
        (lambda c: c["images"][2].update(height=0), "invalid height and width"),
        (lambda c: c["annotations"][4].update(segmentation=[[1, 2, 3]]), "31: a polygon must"),
        (
            lambda c: c["annotations"][4].update(segmentation={"size": [1, 1]}),
            "annotation 31: segm",
        ),
    ],
)
def test_malformed_instances_raise(tmp_path, change, message):
    write(tmp_path)
    file = tmp_path / "refcoco/instances.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"instances\.json: invalid COCO annotations .*{message}"):
        data_of(tmp_path)


def test_annotations_without_a_segmentation_are_missing(tmp_path):
    write(tmp_path)
    file = tmp_path / "refcoco/instances.json"
    content = json.loads(file.read_text())
    del content["annotations"][4]["segmentation"]  # of the only sentence of the split
    content["annotations"].append({"id": 99, "image_id": 1, "category_id": 1})  # of none
    file.write_text(json.dumps(content))
    assert len(data_of(tmp_path, val_split="train").datasets["val"]) == 2
    with pytest.raises(ValueError, match="skipped: 1 whose annotation is missing"):
        data_of(tmp_path)


def test_masks_of_different_sizes_in_one_photo_raise(tmp_path):
    row, other = moondream_row(), moondream_row(mask={"counts": [6], "size": [2, 3]})
    row["samples"] += other["samples"]
    with pytest.raises(ValueError, match=r"jpg: masks of different sizes"):
        data_of(write_moondream(tmp_path, row), dataset="refcoco-m")


@pytest.mark.parametrize(
    "row",
    [
        {"image_id": 1},
        moondream_row(file_name="/etc/a.jpg"),
        moondream_row(mask={"counts": "abc", "size": [HEIGHT, WIDTH]}),
        moondream_row(sentences=None),
    ],
)
def test_malformed_rows_of_refcoco_m_raise(tmp_path, row):
    with pytest.raises(ValueError, match="invalid rows of RefCOCO-M"):
        data_of(write_moondream(tmp_path, row), dataset="refcoco-m")


# ---- real photos and masks of COCO, arranged as RefCOCO and gRefCOCO


@pytest.fixture(scope="module")
def real(real_data, tmp_path_factory):
    """Root with RefCOCO and gRefCOCO of 110 real photos, and the PhraseCut they are made from."""
    root, source = tmp_path_factory.mktemp("real"), real_data / "phrasecut_coco"
    folder = source / "VGPhraseCut_v0"
    photos = root / "images/mscoco/images/train2014"
    photos.mkdir(parents=True)
    images, annotations, refs, general = [], [], [], []
    for row in json.loads((folder / "image_data_split.json").read_text()):
        number = row["image_id"]
        name = PHOTO.format(number)
        images.append({"id": number, "file_name": name} | {k: row[k] for k in ("height", "width")})
        (photos / name).symlink_to(folder / "images" / f"{number}.jpg")
    for split, split_name in (("train", "train"), ("val", "val"), ("test", "testA")):
        for task in json.loads((folder / f"refer_{split}.json").read_text()):
            phrase, image = task["phrase"], task["image_id"]
            every = []
            for polygons in task["Polygons"]:
                flat = [[value for point in polygon for value in point] for polygon in polygons]
                number = len(annotations) + 1  # the ids of the source are not unique
                every.append(number)
                annotations.append((number, image, 1, flat, 0))
                texts = [phrase, f"the {phrase}", f"{phrase} in the photo"]
                refs.append((len(refs) + 1, number, image, 1, split_name, texts))
            one = [1] * len(every)
            general.append((len(general) + 1, every, image, one, split_name, [phrase]))
            general.append((len(general) + 1, [-1], image, [-1], split_name, ["a unicorn"]))
    content = {
        "images": images,
        "annotations": [
            dict(zip(("id", "image_id", "category_id", "segmentation", "iscrowd"), a, strict=True))
            for a in annotations
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    for dataset in ("refcoco", "grefcoco"):
        (root / dataset).mkdir()
        (root / dataset / "instances.json").write_text(json.dumps(content))
    made = [ref(*each) for each in refs]
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(made, 2))
    (root / "grefcoco/grefs(unc).json").write_text(json.dumps([ref(*each) for each in general]))
    return root, source


def tasks_of(source, split):
    return json.loads((source / f"VGPhraseCut_v0/refer_{split}.json").read_text())


@pytest.mark.parametrize(("split", "name"), [("train", "train"), ("val", "val"), ("test", "testA")])
def test_real_counts_equal_an_independent_count(real, split, name):
    root, source = real
    tasks = tasks_of(source, split)
    table = RefCOCO(root, "refcoco", name)
    assert not table.skipped
    assert len(table) == 3 * sum(len(task["ann_ids"]) for task in tasks)
    general = RefCOCO(root, "grefcoco", name)
    photos = {task["image_id"] for task in tasks}
    assert general.counts() == {
        "photos": len(photos),
        "sentences": 2 * len(tasks),
        "without a target": len(tasks),
    }


def test_real_targets_equal_those_of_phrasecut(real):
    root, source = real
    general, phrasecut = RefCOCO(root, "grefcoco", "val"), PhraseCut(source, "val")
    for task in range(0, len(phrasecut), 5):
        assert np.array_equal(general.mask(2 * task), phrasecut.mask(task))
        assert np.array_equal(general.image(2 * task), phrasecut.image(task))
        assert not general.mask(2 * task + 1).any() and not general.has_target(2 * task + 1)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["refcoco", "grefcoco"])
def test_real_photos_are_evaluated_end_to_end(real, dataset, decoder_file, tmp_path):
    root, source = real
    overlay = EXPERIMENTS / "benchmarks" / f"{dataset}.yaml"
    weights = f"--model.init_decoder={decoder_file}"
    run(*arguments("validate", root, tmp_path, weights, configs=(overlay,)))
    content, tasks = results(tmp_path), tasks_of(source, "val")
    counted = content["metrics"]["val/text/prompts"]
    if dataset == "refcoco":
        assert counted == 3 * sum(len(task["ann_ids"]) for task in tasks)
    else:
        assert (counted, content["metrics"]["val/text/no_target_prompts"]) == (
            2 * len(tasks),
            len(tasks),
        )
        assert 0 <= content["metrics"]["val/text/giou@0.3"] <= 1
    assert content["dataset_sizes"] == {"val": len({task["image_id"] for task in tasks})}
