"""LVIS annotations: categories, masks, absent categories and malformed files."""

import json

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.images import UnreadableImageError
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.lvis import LVIS, Pair
from datamodules.datasets.prompted import Prompting
from datamodules.lvis_names import LVISNamesDataModule
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.lvis import LVIS_CATEGORIES, draw_lvis, lvis_request
from tests.datasets.own import write_turned

URL = "http://images.cocodataset.org"
SQUARE = [4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]
BAR = [24.0, 0.0, 28.0, 0.0, 28.0, 24.0, 24.0, 24.0]


def annotation(number, image, category, *polygons):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": [*polygons]}


def image(number, folder="train2017", **more):
    file = f"{URL}/{folder}/{number:012d}.jpg"
    return {"id": number, "height": 24, "width": 32, "coco_url": file, **more}


CATEGORIES = [{"id": 3, "name": "bus_(vehicle)"}, {"id": 9, "name": "dog"}]
TRAIN = {
    "categories": CATEGORIES,
    "images": [image(1), image(2)],
    "annotations": [
        annotation(1, 1, 9, SQUARE),
        annotation(2, 1, 3, BAR),
        annotation(3, 1, 9, BAR, [0.0, 0.0, 2.0, 0.0]),  # a polygon of two points
    ],
}
VAL = {
    "categories": CATEGORIES,
    "images": [image(5, "val2017"), image(6)],
    "annotations": [annotation(1, 5, 3, SQUARE), annotation(2, 6, 9, SQUARE)],
}


def write(root, train=TRAIN, val=VAL):
    folder = root / "LVIS"
    for name, numbers in (("train2017", (1, 2, 6)), ("val2017", (5,))):
        (folder / name).mkdir(parents=True)
        for number in numbers:
            photo = Image.new("RGB", (32, 24), (number, 0, 0))
            photo.save(folder / name / f"{number:012d}.jpg", format="PNG")  # lossless
    (folder / "lvis_v1_train.json").write_text(json.dumps(train))
    (folder / "lvis_v1_val.json").write_text(json.dumps(val))
    return root


@pytest.fixture
def source(tmp_path):
    return LVIS(write(tmp_path))


def rectangle(top, bottom, left, right):
    mask = np.zeros((24, 32), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_each_annotated_category_of_an_image_is_one_pair(source):
    assert source.pairs == [Pair(1, 3), Pair(1, 9), Pair(5, 3), Pair(6, 9)]
    assert [list(source.categories(number)) for number in (1, 2, 5, 77)] == [[3, 9], [], [3], []]


def test_single_split_can_be_read(tmp_path):
    assert LVIS(write(tmp_path), ["val"]).pairs == [Pair(5, 3), Pair(6, 9)]


def test_duplicate_ids_are_an_error(tmp_path):
    train = TRAIN | {"images": [image(1), image(2), image(1, "val2017")]}
    with pytest.raises(
        ValueError, match=r"images has duplicate id 1, for 'train2017/0.*1\.jpg' and for"
    ):
        LVIS(write(tmp_path, train), ["train"])


def test_floats_without_fraction_are_accepted_as_ids(tmp_path):
    annotations = [{**entry, "image_id": float(entry["image_id"])} for entry in VAL["annotations"]]
    source = LVIS(write(tmp_path, val=VAL | {"annotations": annotations}), ["val"])
    assert source.pairs == [Pair(5, 3), Pair(6, 9)]


def test_mask_is_the_union_of_all_instances(source):
    assert np.array_equal(source.mask(Pair(1, 3)), rectangle(0, 24, 24, 28))
    both = rectangle(4, 20, 4, 20) | rectangle(0, 24, 24, 28)
    assert np.array_equal(source.mask(Pair(1, 9)), both)


FEDERATED = {
    "categories": [*CATEGORIES, {"id": 4, "name": "cat"}],
    "images": [
        image(1, neg_category_ids=[4], not_exhaustive_category_ids=[9]),
        image(2, neg_category_ids=[], not_exhaustive_category_ids=[]),
        image(6, neg_category_ids=[9, 4]),
        image(8),
    ],
    "annotations": [
        annotation(1, 1, 9, SQUARE),
        annotation(2, 2, 3, SQUARE),
        annotation(3, 6, 4, SQUARE),
    ],
}


def test_only_listed_categories_are_known_to_be_absent(tmp_path):
    source = LVIS(write(tmp_path, FEDERATED), ["train"])
    absent = {number: list(source.absent_categories(number)) for number in (1, 2, 6, 8)}
    assert absent == {1: [4], 2: [], 6: [9], 8: []}  # 4 is annotated in image 6


@pytest.mark.parametrize("train", [True, False])
def test_negatives_are_sampled_from_categories_known_to_be_absent(tmp_path, train):
    write(tmp_path, FEDERATED, FEDERATED)
    prompting = {"prompting": Prompting(negative_prob=1.0)} if train else {}
    data = LVISNamesDataModule(str(tmp_path), 16, 2, 0, **prompting)
    data.setup("fit")
    dataset, found = data.datasets["train" if train else "val"], {}
    for epoch in range(5):
        for task in range(3):
            for prompt in dataset[epoch, task]["prompts"]:
                if prompt["negative"]:
                    found.setdefault(dataset.source.pairs[task].image, set()).add(prompt["phrase"])
    assert found == {1: {"cat"}, 6: {"dog"}}  # image 2 lists no absent category


def test_toy_lvis_lists_all_absent_categories(tmp_path):
    build_folders(tmp_path, lvis_request({"train": 3, "val": 40}, 3), progress=False)
    source = LVIS(tmp_path, ["val"])
    for index, number in enumerate(source.images):
        drawn = {LVIS_CATEGORIES[thing.kind].id for thing in draw_lvis(3, "val", index).things}
        assert set(source.absent_categories(number)) == source.names.keys() - drawn


def test_underscores_in_names_are_replaced_by_blanks(source):
    assert source.names == {3: "bus (vehicle)", 9: "dog"}


def test_photos_are_found_by_their_urls(source):
    for number in (1, 5, 6):
        photo = source.photo(number)
        assert photo.shape == (24, 32, 3) and (photo[..., 0] == number).all()


def test_file_names_of_version_0_5_are_found(tmp_path):
    images = [{"id": n, "height": 24, "width": 32} for n in (5, 6)]
    for entry in images:
        entry["file_name"] = f"COCO_val2014_{entry['id']:012d}.jpg"
    source = LVIS(write(tmp_path, val=VAL | {"images": images}), ["val"])
    assert [source.photo(number)[0, 0, 0] for number in (5, 6)] == [5, 6]
    with pytest.raises(UnreadableImageError, match=r"000000000005.jpg: no such photo"):
        (tmp_path / "LVIS" / "val2017" / f"{5:012d}.jpg").unlink()
        source.photo(5)


def test_missing_parts_are_listed(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"found nothing; missing lvis_v1_train.json, l"):
        LVIS(tmp_path)
    (write(tmp_path) / "LVIS" / "lvis_v1_val.json").unlink()
    message = r"missing lvis_v1_val.json\. Download it from .* check --data.init_args.root "
    with pytest.raises(DatasetNotFoundError, match=message) as e:
        LVIS(tmp_path)
    assert "\n" not in str(e.value)


def test_resized_photo_is_an_error(source):
    Image.new("RGB", (30, 24)).save(source.folder / "val2017" / f"{5:012d}.jpg")
    message = r"005.jpg: size is \(24, 30\), annotated as \(24, 32\)"
    with pytest.raises(UnreadableImageError, match=message):
        source.photo(5)


def test_size_mismatch_by_exif_orientation_is_explained(source):
    write_turned(source.folder / "val2017" / f"{5:012d}.jpg", (32, 24))
    message = "stored as 24 x 32 pixels .* turns it to 32 x 24"
    with pytest.raises(UnreadableImageError, match=message):
        source.photo(5)


@pytest.mark.parametrize(
    "change",
    [
        {"annotations": [annotation(1, 77, 3, SQUARE)]},
        {"annotations": [annotation(1, 5, 77, SQUARE)]},
        {"annotations": [annotation(1, 5, 3, SQUARE[:-1])]},
        {"annotations": [annotation(1, 5, 3, ["a", "b"])]},
        {"annotations": [{"id": 1, "image_id": 5, "category_id": 3}]},
        {"annotations": [{"segmentation": [SQUARE], "image_id": 5}]},
        {"annotations": [annotation(1, 5, 3) | {"segmentation": {"counts": "", "size": [1, 1]}}]},
        {"annotations": [annotation(1, [5], 3, SQUARE)]},
        {"annotations": None},
        {"images": [image(5, height=None)]},
        {"images": [image(5, height=0)]},
        {"images": [image(5, coco_url=None)]},
        {"images": [image(5, neg_category_ids=3)]},
        {"images": [image(5, neg_category_ids=["dog"])]},
        {"images": [{"id": 5, "height": 2, "width": 2}]},
        {"images": [image(5), image(5, "val2017")]},
        {"images": [image(5), image(1)]},  # also in the other split
        {"categories": [*CATEGORIES, {"id": 9, "name": "cat"}]},
        {
            "categories": [{"id": 9, "name": "cat"}],
            "annotations": [],
        },  # different name in the other split
        {"categories": [{"id": 3}]},
        {"categories": [{"id": 3, "name": None}]},
        {"categories": {"id": 3}},
    ],
)
def test_invalid_annotations_raise_one_line(tmp_path, change):
    with pytest.raises(ValueError, match=r"lvis_v1_val.json: invalid LVIS annotations") as error:
        LVIS(write(tmp_path, val=VAL | change))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"images": [', b"\xff\xfe"])
def test_malformed_file_raises_one_line(tmp_path, content):
    (write(tmp_path) / "LVIS" / "lvis_v1_val.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"lvis_v1_val.json: invalid LVIS annotations") as error:
        LVIS(tmp_path)
    assert "\n" not in str(error.value)


def test_toy_annotations_match_the_drawn_scenes(tmp_path):
    build_folders(tmp_path, lvis_request({"train": 3, "val": 4}, 3), progress=False)
    source = LVIS(tmp_path)
    number = 0
    for split, count in (("train", 3), ("val", 4)):
        for index in range(count):
            scene, number = draw_lvis(3, split, index), number + 1
            assert np.abs(source.photo(number).astype(int) - scene.image).mean() < 6  # JPEG
            drawn = {}
            for thing in scene.things:
                category = LVIS_CATEGORIES[thing.kind].id
                drawn[category] = drawn.get(category, False) | thing.mask
            assert list(source.categories(number)) == sorted(drawn)
            for category, mask in drawn.items():
                read = source.mask(Pair(number, category))
                assert (read & mask).sum() > 0.9 * (read | mask).sum()
    assert source.names[207] == "car (automobile)"


def test_masks_of_real_annotations_have_the_published_areas(real_data, tmp_path):
    """Annotations of 100 images of LVIS v0.5, three with photos; LVIS gives the expected areas."""
    mini, folder = real_data / "lvis_mini", tmp_path / "LVIS"
    (folder / "train2017").mkdir(parents=True)
    (folder / "val2017").symlink_to(mini / "val2017")
    (folder / "lvis_v1_val.json").symlink_to(mini / "lvis_val_100.json")
    source = LVIS(tmp_path, ["val"])
    content = json.loads((mini / "lvis_val_100.json").read_text())
    assert len(source.names) == 1230 and source.names[3] == "air conditioner"
    absent = [len(source.absent_categories(number)) for number in source.images]
    assert sum(absent) == 942 and min(absent) == 0  # of 1230 categories
    areas, counts = {}, {}
    for entry in content["annotations"]:
        pair = Pair(entry["image_id"], entry["category_id"])
        areas[pair] = areas.get(pair, 0) + entry["area"]
        counts[pair] = counts.get(pair, 0) + 1
    assert source.pairs == sorted(areas) and len(areas) == 299
    alone = [pair for pair in source.pairs if counts[pair] == 1 and areas[pair] > 1000]
    for pair in alone:
        assert source.mask(pair).sum() == pytest.approx(areas[pair], rel=0.03)
    assert len(alone) > 50
    for file in sorted((mini / "val2017").glob("*.jpg")):
        number = int(file.stem)
        height, width = source.photo(number).shape[:2]
        assert source.mask(Pair(number, source.categories(number)[0])).shape == (height, width)


@pytest.mark.parametrize(
    "train",
    [
        {**TRAIN, "annotations": [annotation(1, 1, 9, [0.0, 0.0, float("nan"), 0.0, 9.0, 9.0])]},
        {**TRAIN, "images": [image(1, height=0), image(2)]},
        {**TRAIN, "images": [{**image(1), "coco_url": "a/../secret.jpg"}, image(2)]},
        {**TRAIN, "images": [{**image(1), "id": "../up"}, image(2)]},
        {**TRAIN, "categories": [{"id": "../up", "name": "dog"}]},
    ],
)
def test_invalid_sizes_names_and_ids_are_an_error(tmp_path, train):
    write(tmp_path, train)
    with pytest.raises(ValueError, match=r"lvis_v1_train\.json: invalid LVIS annotations"):
        LVIS(tmp_path)
