"""Toy VOC2012, COCO2014 and LVIS: the files match the drawn scenes."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from datamodules.toy.scenes.kinds import PASCAL_KINDS
from datamodules.toy.writers.coco import COCO_CLASSES, coco_request, draw_coco
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.lvis import LVIS_CATEGORIES, draw_lvis, lvis_request
from datamodules.toy.writers.voc import LEAST_PIXELS, VOC_LABELS, draw_voc, voc_labels, voc_request

COUNTS = {"train": 40, "val": 40}
REQUESTS = {"VOC2012": voc_request, "COCO2014": coco_request, "LVIS": lvis_request}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    for request in REQUESTS.values():
        build_folders(root, request(COUNTS, 3), progress=False)
    return root


def lines(file):
    return file.read_text().splitlines()


def labels(file):
    return np.array(Image.open(file))


# ---- VOC2012


def test_voc_labels_match_the_scene(world):
    folder = world / "VOC2012"
    for index in (0, 7, 39):
        scene = draw_voc(3, "val", index)
        name = lines(folder / "ImageSets" / "Segmentation" / "val.txt")[index]
        found = labels(folder / "SegmentationClass" / f"{name}.png")
        assert np.array_equal(found, voc_labels(scene))
        assert np.array_equal(found, labels(folder / "SegmentationClassAug" / f"{name}.png"))
        valid = found != 255
        for thing in scene.things:
            inside = found[thing.mask & valid]
            assert (inside == 1 + PASCAL_KINDS.index(thing.kind)).all()
        background = ~np.any([thing.mask for thing in scene.things], 0)
        assert (found[background & valid] == 0).all() and (~valid).mean() < 0.15
        photo = np.array(Image.open(folder / "JPEGImages" / f"{name}.jpg"), int)
        assert np.abs(photo - scene.image).mean() < 6  # JPEG


def test_voc_masks_have_the_published_modes_and_colours(world):
    (first, *_) = sorted((world / "VOC2012" / "SegmentationClass").iterdir())
    published = Image.open(first)
    assert published.mode == "P"
    palette = np.array(published.getpalette()).reshape(-1, 3)
    # from VOC's development kit: background, aeroplane, bicycle, tvmonitor, border
    assert palette[[0, 1, 2, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip
    assert Image.open(world / "VOC2012" / "SegmentationClassAug" / first.name).mode == "L"


def test_voc_lists_contain_existing_files(world):
    folder, lists = world / "VOC2012", world / "lists"
    sets = folder / "ImageSets" / "Segmentation"
    train, val = lines(sets / "train.txt"), lines(sets / "val.txt")
    assert len(train) == len(val) == 40 and not set(train) & set(val)
    assert lines(sets / "trainval.txt") == sorted(train + val)
    for row in lines(sets / "train_aug.txt"):
        photo, mask = row.split()
        assert (folder / photo.lstrip("/")).is_file() and (folder / mask.lstrip("/")).is_file()
    for name, ids in (("voc_sbd_merge_noduplicate", train), ("val", val)):
        rows = [row.split() for row in lines(lists / "pfenet" / f"{name}.txt")]
        assert [photo.split("/")[1].removesuffix(".jpg") for photo, _ in rows] == ids
        assert all((folder / mask).is_file() for _, mask in rows)


def test_hsnet_lists_contain_images_with_2048_pixels_of_a_class(world):
    folder = world / "VOC2012"
    for part, split in (("trn", "train"), ("val", "val")):
        for fold in range(4):
            expected = set()
            for name in lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt"):
                found = labels(folder / "SegmentationClass" / f"{name}.png")
                for label in range(5 * fold + 1, 5 * fold + 6):
                    if (found == label).sum() >= LEAST_PIXELS:
                        expected.add(f"{name}__{label:02d}")
            rows = lines(world / "lists" / "hsnet" / "pascal" / part / f"fold{fold}.txt")
            assert len(rows) == len(set(rows)) and set(rows) == expected
            for label in range(5 * fold + 1, 5 * fold + 6):  # a query and a support per class
                assert sum(row.endswith(f"__{label:02d}") for row in rows) >= 2


# ---- COCO-20i


class PlainUnpickler(pickle.Unpickler):
    """Unpickler that accepts no classes or functions."""

    def find_class(self, module, name):
        raise pickle.UnpicklingError(f"{module}.{name}")


def test_coco_masks_match_the_scene(world):
    for split, first in (("train", 1), ("val", 41)):
        scene = draw_coco(3, split, 5)
        name = f"COCO_{split}2014_{first + 5:012d}"
        file = world / "COCO2014" / "annotations" / f"{split}2014" / f"{name}.png"
        assert Image.open(file).mode == "L"
        expected = np.zeros((160, 200), int)
        for thing in scene.things:
            expected[thing.mask] = COCO_CLASSES[thing.kind] + 1
        assert np.array_equal(labels(file), expected)


@pytest.mark.parametrize("part", ["trn", "val"])
def test_coco_folds_list_the_images_of_each_class(world, part):
    split = "train" if part == "trn" else "val"
    masks = world / "COCO2014" / "annotations" / f"{split}2014"
    shown = {file.stem: set(np.unique(labels(file)).tolist()) for file in sorted(masks.iterdir())}
    for fold in range(4):
        with (world / "splits" / "coco" / part / f"fold{fold}.pkl").open("rb") as file:
            listed = PlainUnpickler(file).load()
        assert list(listed) == list(range(80))
        held_out = {place for place in range(80) if place % 4 == fold}
        classes = held_out if part == "val" else set(range(80)) - held_out
        for place, images in listed.items():
            names = [
                f"{split}2014/{name}.jpg" for name, found in shown.items() if place + 1 in found
            ]
            assert images == (names if place in classes else [])
            assert all((world / "COCO2014" / image).is_file() for image in images)
        drawn = {place for place in classes if place in COCO_CLASSES.values()}
        assert drawn and all(len(listed[place]) >= 2 for place in drawn)


# ---- LVIS


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
def test_lvis_polygons_match_the_things(world, capsys):
    annotated = COCO(str(world / "LVIS" / "lvis_v1_val.json"))
    kind_of = {category.id: kind for kind, category in LVIS_CATEGORIES.items()}
    for index, image in enumerate(annotated.loadImgs(annotated.getImgIds())[:12]):
        scene = draw_lvis(3, "val", index)
        anns = annotated.loadAnns(annotated.getAnnIds([image["id"]]))
        assert [kind_of[ann["category_id"]] for ann in anns] == [t.kind for t in scene.things]
        for ann, thing in zip(anns, scene.things, strict=True):
            filled = annotated.annToMask(ann).astype(bool)
            assert (filled & thing.mask).sum() > 0.9 * (filled | thing.mask).sum()
            assert ann["area"] == thing.mask.sum() and ann["bbox"] == list(thing.box)
        names = {category.id for category in LVIS_CATEGORIES.values()}
        assert set(image["neg_category_ids"]) == names - {ann["category_id"] for ann in anns}


@pytest.mark.parametrize("split", ["train", "val"])
def test_lvis_has_the_keys_of_v1_and_all_photos(world, split):
    content = json.loads((world / "LVIS" / f"lvis_v1_{split}.json").read_text())
    assert set(content) == {"info", "licenses", "categories", "images", "annotations"}
    for image in content["images"]:
        folder, name = image["coco_url"].split("/")[-2:]
        photo = Image.open(world / "LVIS" / folder / name)
        assert photo.size == (image["width"], image["height"])
    for category in content["categories"]:
        anns = [a for a in content["annotations"] if a["category_id"] == category["id"]]
        assert category["instance_count"] == len(anns) >= 2
        assert category["image_count"] == len({a["image_id"] for a in anns})
    folders = {image["coco_url"].split("/")[-2] for image in content["images"]}
    assert folders == ({"train2017"} if split == "train" else {"train2017", "val2017"})


# ---- compared with real samples


def test_lvis_categories_and_keys_match_the_published_ones(world, real_data):
    ours = json.loads((world / "LVIS" / "lvis_v1_val.json").read_text())
    theirs = json.loads((real_data / "lvis_mini" / "lvis_val_100.json").read_text())
    assert set(ours) == set(theirs)
    # the sample is from v0.5, which also has file names
    assert set(ours["images"][0]) == set(theirs["images"][0]) - {"file_name"}
    for part in ("annotations", "categories"):
        assert set(ours[part][0]) == set(theirs[part][0])
    published = json.loads((real_data / "lvis_mini" / "lvis_v1_categories.json").read_text())
    by_id = {category["id"]: category for category in published}
    for category in ours["categories"]:
        real = by_id[category["id"]]
        for key in ("name", "synset", "frequency"):
            assert category[key] == real[key]
        assert set(category["synonyms"]) <= set(real["synonyms"])


@pytest.mark.parametrize(
    ("mini", "dataset", "lists", "pattern"),
    [
        ("voc2012_mini", "VOC2012", "lists", "*.txt"),
        ("coco20i_mini", "COCO2014", "splits", "*.pkl"),
    ],
)
def test_folders_and_lists_have_the_paths_of_the_real_ones(
    world, real_data, mini, dataset, lists, pattern
):
    def found(root, wanted):
        paths = [path for part in (dataset, lists) for path in (root / part).rglob(wanted)]
        return {str(p.relative_to(root)) for p in paths if p.is_dir() or pattern == wanted}

    for wanted in (pattern, "*"):
        assert found(world, wanted) == found(real_data / mini, wanted) != set()


# ---- all datasets


def contents(folder):
    return {
        file.relative_to(folder): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.mark.parametrize("name", list(REQUESTS))
def test_equal_seeds_give_equal_files(name, tmp_path):
    counts = {"train": 2, "val": 1}
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        build_folders(tmp_path / folder, REQUESTS[name](counts, seed), progress=False)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    first, other = (
        next(iter(sorted((tmp_path / folder / name).rglob("*.jpg")))) for folder in ("a", "c")
    )
    assert first.read_bytes() != other.read_bytes()


@pytest.mark.parametrize("name", list(REQUESTS))
def test_build_folders_never_touches_real_data(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(FileExistsError, match="did not write"):
        build_folders(tmp_path, REQUESTS[name](COUNTS, 0), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert not list((tmp_path / name).iterdir())


@pytest.mark.parametrize("draw", [draw_voc, draw_coco, draw_lvis])
def test_scenes_show_pascals_kinds_only(draw):
    scenes = [draw(3, "val", index) for index in range(30, 90)]  # the first 40 cover every kind
    assert {thing.kind for scene in scenes for thing in scene.things} == set(PASCAL_KINDS)


def test_every_kind_has_a_label():
    assert set(VOC_LABELS) == set(COCO_CLASSES) == set(LVIS_CATEGORIES) == set(PASCAL_KINDS)
