"""Toy label maps: the layouts agree with the drawn scenes and with each other."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from clipseg_pl.images import load_photo
from datamodules.datasets.label_maps import published_labels
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.label_maps import draw_labelled, label_maps_request, values_of

COUNTS = {"train": 3, "val": 4}
SEED = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("labels")
    build_folders(root, label_maps_request(COUNTS, SEED), progress=False)
    return root


def test_values_are_those_of_the_published_classes():
    ade, names = values_of("ade20k_150"), published_labels()["ade20k_150"].names
    assert {names[value] for value in ade.values()} >= {"airplane", "person", "sky", "wall", "sofa"}
    assert "dog" not in ade and ade["sea"] == names_to_values("ade20k_150")["water"]
    coco, values = values_of("coco_stuff_171"), names_to_values("coco_stuff_171")
    assert coco["diningtable"] == values["dining table"] and coco["sky"] == values["sky-other"]
    assert len(values_of("pascal_context_59")) == 25  # Pascal's kinds and five kinds of stuff


def names_to_values(key):
    return {name: value for value, name in published_labels()[key].names.items()}


def test_unknown_splits_raise():
    with pytest.raises(ValueError, match=r"unknown splits \['test'\]"):
        label_maps_request({"test": 3}, SEED)


FILES = {
    "ade20k_150": (
        "ADEChallengeData2016/images/validation/ADE_val_{0:08}.jpg",
        "ADEChallengeData2016/annotations/validation/ADE_val_{0:08}.png",
        1,
    ),
    "coco_stuff_171": (
        "coco-stuff/images/val2017/{0:012}.jpg",
        "coco-stuff/annotations/val2017/{0:012}.png",
        1 + COUNTS["train"],
    ),
    "cityscapes_19": (
        "cityscapes/leftImg8bit/val/toytown/toytown_{0:06}_000019_leftImg8bit.png",
        "cityscapes/gtFine/val/toytown/toytown_{0:06}_000019_gtFine_labelTrainIds.png",
        0,
    ),
}


@pytest.mark.parametrize("key", FILES)
def test_photos_and_label_maps_match_the_scenes(root, key):
    photo, label_map, first = FILES[key]
    values, rest = values_of(key), {"ade20k_150": 0}.get(key, 255)
    for index in range(COUNTS["val"]):
        scene = draw_labelled(SEED, "val", index)
        image = load_photo(root / photo.format(first + index))
        assert np.abs(image.astype(float) - scene.image).mean() < 6
        labels = np.array(Image.open(root / label_map.format(first + index)))
        regions = [*scene.stuff.items(), *((thing.kind, thing.mask) for thing in scene.things)]
        assert sum(mask for _, mask in regions).max() == 1
        for name, mask in regions:
            assert (labels[mask] == values.get(name, rest)).all()


def test_annotations_of_pascal_context_match_the_scenes(root):
    folder, values = root / "VOCdevkit" / "VOC2010", values_of("pascal_context_59")
    content = json.loads((folder / "trainval_merged.json").read_text())
    assert [photo["phase"] for photo in content["images"]] == ["train"] * 3 + ["val"] * 4
    ids = [annotation["id"] for annotation in content["annos_segmentation"]]
    assert ids == list(range(1, len(ids) + 1))
    for index, photo in enumerate(content["images"][3:]):
        scene = draw_labelled(SEED, "val", index)
        assert load_photo(folder / "JPEGImages" / photo["file_name"]).shape == scene.image.shape
        found = {
            annotation["category_id"]: coco_mask.decode(annotation["segmentation"]) > 0
            for annotation in content["annos_segmentation"]
            if annotation["image_id"] == photo["image_id"]
        }
        expected = {}
        for name, mask in [*scene.stuff.items(), *((t.kind, t.mask) for t in scene.things)]:
            category = 1 if name == "sea" else values[name]
            expected[category] = expected.get(category, False) | mask
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[category], expected[category]) for category in found)
