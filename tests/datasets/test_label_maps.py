"""Photos with label maps: class names, values, bad input, samples and training tasks."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.protocols.semantic import SemanticProtocol
from clipseg_pl.sample import collate
from clipseg_pl.training.module import CLIPSegModule
from datamodules.datasets.files import DatasetNotFoundError, read_yaml
from datamodules.datasets.label_maps import (
    LabelClasses,
    find_label_maps,
    published_labels,
    read_names,
)
from datamodules.datasets.prompted import Prompting
from datamodules.label_maps import LabelMapsDataModule
from datamodules.toy.scenes.scene import Scene
from datamodules.toy.writers.label_maps import draw_labelled, paint_values, values_of
from tests.command import EXPERIMENTS, arguments, results, run

SIZE = {"image_size": 32, "batch_size": 4, "num_workers": 0}
NAMES = {1: ["flood water", "water"], 2: "Road", 7: "road_sign"}
OVERLAYS = {
    file.stem: yaml.safe_load(file.read_text())["data"]["init_args"]
    for file in (EXPERIMENTS / "benchmarks").glob("*.yaml")
    if "LabelMaps" in file.read_text()
}


def write(root, maps, split="val", size=None):
    """Write grey photos a.jpg, b.jpg, ... and their label maps."""
    for kind in ("images", "labels"):
        (root / "own" / kind / split).mkdir(parents=True, exist_ok=True)
    for place, labels in enumerate(maps):
        name, (height, width) = chr(ord("a") + place), size or labels.shape[:2]
        photo = np.full((height, width, 3), 40 * place, np.uint8)
        Image.fromarray(photo).save(root / "own" / "images" / split / f"{name}.jpg")
        Image.fromarray(labels).save(root / "own" / "labels" / split / f"{name}.png")


def labels_of(*values, side=4):
    """Return a label map with a row of each value."""
    return np.repeat(np.array(values, np.uint8)[:, None], side, axis=1)


def data_of(root, **settings):
    return LabelMapsDataModule(str(root), **SIZE, **{"classes": NAMES, **settings})


def validation(root, **settings):
    data = data_of(root, **settings)
    data.setup("validate")
    return data


# ---- names and values


def test_published_labels_have_the_published_numbers_of_classes():
    found = {
        key: (len(labels.names), min(labels.names), max(labels.names), labels.photos)
        for key, labels in published_labels().items()
    }
    assert found == {
        "voc_20": (20, 1, 20, 1449),
        "pascal_context_59": (59, 2, 458, 5104),
        "ade20k_150": (150, 1, 150, 2000),
        "coco_stuff_171": (171, 0, 181, 5000),
        "cityscapes_19": (19, 0, 18, 500),
    }
    assert all(len(set(labels.names.values())) == len(labels.names) for labels in
               published_labels().values())  # fmt: skip
    assert 11 not in published_labels()["coco_stuff_171"].names


def test_published_labels_equal_the_facts(real_data):
    for key, labels in published_labels().items():
        if key == "voc_20":
            continue
        facts = json.loads((real_data / "class_names" / f"{key}.json").read_text())
        first = {"ade20k_150": 1, "cityscapes_19": 0}.get(key)
        values = facts.get("values") or facts.get("category_ids")
        values = range(first, first + len(facts["names"])) if values is None else values
        assert labels.names == dict(zip(values, facts["names"], strict=True))


def test_names_become_prompts_and_values_become_class_ids():
    classes = LabelClasses(read_names(NAMES, None), [255], [0])
    assert classes.info.names == ("background", "flood water", "Road", "road_sign")
    assert classes.info.phrasings == ((), ("flood water", "water"), ("road",), ("road sign",))
    values = np.array([[0, 1, 2, 7], [255, 255, 1, 0]], np.uint8)
    assert classes.ids(values).tolist() == [[0, 1, 2, 3], [-1, -1, 1, 0]]
    prompted = LabelClasses(read_names(NAMES, None), [255], [0], "the rest")
    assert prompted.info.phrasings[0] == ("the rest",)
    rest = LabelClasses(read_names(NAMES, None), "unnamed", None)
    assert rest.info.names[0] == "flood water"
    assert rest.ids(np.array([1, 0, 3, 60000], np.uint16)).tolist() == [0, -1, -1, -1]
    rest = LabelClasses(read_names(NAMES, None), [5], "unnamed")
    assert rest.ids(np.array([1, 0, 5, 60000], np.uint16)).tolist() == [1, 0, -1, 0]


def test_values_with_the_same_names_are_one_class():
    classes = LabelClasses(read_names({3: "car", 4: "car", 5: "bus"}, None), [255], None)
    assert classes.info.names == ("car", "bus")
    assert classes.ids(np.array([3, 4, 5])).tolist() == [0, 0, 1]


def test_names_are_read_from_a_file(tmp_path):
    (tmp_path / "names.yaml").write_text("1: [flood water, water]\n2: Road\n7: road_sign\n")
    assert read_names("names.yaml", tmp_path) == read_names(NAMES, tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({}, "not a mapping from values to names"),
        ({1: []}, r"value 1 has the names \[\]; write value: name"),
        ({1: 5}, "value 1 has the names 5;"),
        ({-1: "a"}, "-1 is not a value of a label map"),
        ({"a": "b"}, "'a' is not a value of a label map"),
        ({1: "road", "1": "building"}, "value 1 occurs twice"),
    ],
)
def test_malformed_names_raise(setting, message):
    with pytest.raises(ValueError, match=message):
        read_names(setting, None)


def test_value_that_is_twice_in_a_file_raises(tmp_path):
    (tmp_path / "names.yaml").write_text("0: car\n1: road\n1: building\n")
    with pytest.raises(ValueError, match=r"names\.yaml: .*the key '1' occurs twice.* line 3"):
        read_names("names.yaml", tmp_path)


def test_merge_keys_of_yaml_are_read(tmp_path):
    text = "a: &a {1: car}\nb: &b {<<: *a, 1: bus}\nc: {<<: *b, 2: tree}\n"
    (tmp_path / "names.yaml").write_text(text)
    assert read_yaml(tmp_path / "names.yaml")["c"] == {1: "bus", 2: "tree"}


def test_unknown_dataset_or_file_of_names_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="'ade20k' is neither a published dataset"):
        read_names("ade20k", tmp_path)


@pytest.mark.parametrize(
    ("names", "ignore", "background", "prompt", "message"),
    [
        ({1: "a"}, [1], None, None, "value 1 is in both classes and ignore"),
        ({1: "a"}, [0], [0], None, "value 0 is in both ignore and background"),
        ({1: "a"}, "unnamed", "unnamed", None, "are both `unnamed`"),
        ({1: "a"}, [255], None, "rest", "no value is background: set background"),
        ({1: "a"}, [-1], None, None, "ignore: -1 is not a value"),
        ({1: ["a", "b"], 2: ["a", "c"]}, [255], None, None, "two values are named 'a'"),
        ({1: ["a", "b"], 2: ["c", "B"]}, [255], None, None, "'b' is a name of both 'a' and 'c'"),
        ({1: "background"}, [255], [0], None, "two values are named 'background'"),
        ({1: "road"}, [255], [0], "Road", "'road' is a name of both 'background' and 'road'"),
        ({1: "road"}, [255], [0], "", "'background' has a name without words"),
        ({1: ["road", "_"]}, [255], None, None, "'road' has a name without words"),
    ],
)
def test_contradicting_settings_raise(names, ignore, background, prompt, message):
    with pytest.raises(ValueError, match=message):
        LabelClasses(read_names(names, None), ignore, background, prompt)


# ---- bad input


def test_values_without_a_name_are_counted(tmp_path):
    write(tmp_path, [labels_of(1, 2), labels_of(1, 9), labels_of(8, 9)])
    with pytest.raises(ValueError) as error:
        validation(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/own/labels/val: 2 of 3 label maps have values without a name: 8 (in 1), 9 "
        "(in 2); first: b.png; add them to classes, ignore or background"
    )
    assert len(validation(tmp_path, ignore="unnamed").datasets["val"]) == 3


def test_names_without_a_value_are_counted(tmp_path, caplog):
    write(tmp_path, [labels_of(1, 2)])
    data = validation(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}/own/labels/val: 1 of 3 classes are in no label map: road_sign"
    ]
    assert data.skipped == {"val": {"classes that are in no label map": 1}}


def test_label_maps_without_any_class_raise(tmp_path):
    write(tmp_path, [labels_of(255, 3)])
    with pytest.raises(ValueError, match="no class is in any label map; values: 3, 255"):
        validation(tmp_path, ignore="unnamed")


def test_colour_label_maps_are_counted(tmp_path):
    write(tmp_path, [labels_of(1), *(np.zeros((4, 4, 3), np.uint8),) * 2])
    with pytest.raises(UnreadableImageError, match=r"2 of 3 masks .* first: .*b.png: label maps"):
        validation(tmp_path)


def test_label_maps_with_fractions_or_negative_values_raise(tmp_path):
    for values in (np.array([[1, 2.6]], np.float32), np.array([[1, -1]], np.int32)):
        write(tmp_path, [labels_of(1)])
        Image.fromarray(values).save(tmp_path / "own/labels/val/a.png", "TIFF")
        with pytest.raises(UnreadableImageError, match=r"a.png: label maps must have integers of"):
            validation(tmp_path)


def test_predict_raises(tmp_path):
    with pytest.raises(ValueError, match=r"predict writes a mask per phrase, .* with --argmax"):
        data_of(tmp_path).setup("predict")


def test_label_maps_of_another_size_are_counted(tmp_path):
    write(tmp_path, [labels_of(1), labels_of(2)], size=(5, 4))
    with pytest.raises(ValueError, match=r"2 masks differ in size .* first: .*a.png is 1 x 4"):
        validation(tmp_path)


def test_photos_of_benchmarks_are_left_out_by_the_ids_in_their_names(tmp_path):
    photos = tmp_path / "coco-stuff" / "images" / "val2017"
    photos.mkdir(parents=True)
    (photos / "000000000042.jpg").touch()
    for split in ("train", "val"):
        write(tmp_path, [labels_of(1, 2), labels_of(1, 7), labels_of(2)], split)
        for kind, ending in (("images", "jpg"), ("labels", "png")):
            folder = tmp_path / "own" / kind / split
            (folder / f"a.{ending}").rename(folder / f"COCO_val2014_000000000042.{ending}")
    every, kept = (
        data_of(tmp_path, without_photos_of=names) for names in (None, ["coco_stuff_171"])
    )
    for data in (every, kept):
        data.setup("fit")
    assert every.coco_ids("train").tolist() == [42, 42, -1, -1, -1]
    assert kept.coco_ids("train") is None and kept.photos_left_out == 1
    assert kept.coco_ids("val").tolist() == [42, -1, -1]
    data = data_of(tmp_path / "own", images="images/{split}", labels="labels/{split}",
                   without_photos_of=["coco_stuff_171"])  # fmt: skip
    with pytest.raises(DatasetNotFoundError, match=r"COCO-Stuff not found: no photos in .*val2017"):
        data.setup("fit")


def test_label_maps_without_photos_are_counted(tmp_path):
    write(tmp_path, [labels_of(1), labels_of(2)])
    (tmp_path / "own/images/val/b.jpg").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 2 photos are missing .*b.jpg"):
        validation(tmp_path)


def test_photos_without_label_maps_are_skipped_and_counted(tmp_path):
    write(tmp_path, [labels_of(1, 2, 7), labels_of(2)])
    (tmp_path / "own/labels/val/b.png").unlink()
    data = validation(tmp_path)
    assert data.skipped == {"val": {"photos without a label map": 1}}
    assert data.sizes() == {"val": 1}


def test_unknown_split_raises_and_names_the_others(tmp_path):
    write(tmp_path, [labels_of(1)], split="train")
    write(tmp_path, [labels_of(1)], split="holdout")
    with pytest.raises(DatasetNotFoundError) as error:
        validation(tmp_path)
    found = str(error.value)
    assert found.startswith(f"the val split: no such file or folder: {tmp_path}/own/images/val, ")
    assert f"; splits in {tmp_path}: holdout, train; set" in found


def test_missing_folder_and_empty_folder_raise(tmp_path):
    with pytest.raises(DatasetNotFoundError, match=r"own/images/val, .*own/labels/val; set"):
        validation(tmp_path)
    write(tmp_path, [])
    with pytest.raises(DatasetNotFoundError, match=r"own/labels/val: no label maps \(\*.png\)"):
        validation(tmp_path)


def test_listed_names_must_stay_in_the_folder(tmp_path):
    write(tmp_path, [labels_of(1)])
    (tmp_path / "val.txt").write_text("a\n../b\n")
    with pytest.raises(ValueError, match=r"'../b' is not the name of a photo"):
        validation(tmp_path, photo_list="{split}.txt")


def test_names_listed_twice_are_used_once(tmp_path):
    write(tmp_path, [labels_of(1), labels_of(2), labels_of(1)])
    (tmp_path / "val.txt").write_text("a\nb\nb\nc\n")
    maps = validation(tmp_path, photo_list="{split}.txt").label_maps("val")
    assert maps.files.photos == ["a.jpg", "b.jpg", "c.jpg"]
    assert maps.files.maps == ["a.png", "b.png", "c.png"]


def test_empty_label_suffix_raises(tmp_path):
    with pytest.raises(ValueError, match="label_suffix must not be empty"):
        data_of(tmp_path, label_suffix="")


def test_two_photos_with_one_label_map_raise(tmp_path):
    write(tmp_path, [labels_of(1)])
    Image.new("RGB", (4, 1)).save(tmp_path / "own/images/val/a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and a\.png belong to one label map"):
        validation(tmp_path)
    assert validation(tmp_path, image_suffix=".png").sizes() == {"val": 1}


@pytest.mark.parametrize("image_suffix", ["", ".png"])
def test_photos_without_a_label_map_are_counted_in_a_shared_folder(tmp_path, image_suffix):
    for name in ("a", "b", "c"):
        Image.new("RGB", (4, 1)).save(tmp_path / f"{name}.png")
    for name in ("a", "b"):
        Image.new("L", (4, 1)).save(tmp_path / f"{name}_mask.png")
    found = find_label_maps(tmp_path, tmp_path, None, image_suffix, "_mask.png", "val")
    assert found.photos == ["a.png", "b.png"] and found.unused == 1


# ---- samples


def test_samples_have_one_label_map_and_a_prompt_per_name(tmp_path):
    maps = [labels_of(1, 2, 7, 255), labels_of(2, 7, side=6)]
    write(tmp_path, maps)
    prompting = Prompting(evaluation_form="a photo of a {}.")
    data = validation(tmp_path, prompting=prompting)
    batch = next(iter(data.val_dataloader()))
    assert batch["query_image"].shape == (2, 3, 32, 32)
    assert batch["phrase"] == ["flood water", "water", "road", "road sign"] * 2
    assert batch["text_prompt"][1] == "a photo of a water."
    assert batch["class_id"].tolist() == [0, 0, 1, 2] * 2
    assert batch["query_size"].tolist() == [[4, 4], [2, 6]]
    assert batch["query_mask"].numel() == batch["valid_mask"].numel() == 0
    padded = np.full((2, 1, 4, 6), -1)
    padded[0, 0, :3, :4] = [[0] * 4, [1] * 4, [2] * 4]
    padded[1, 0, :2] = [[1] * 6, [2] * 6]
    assert np.array_equal(batch["label_map"], padded)
    assert batch["prompt_id"][:2] == ["a__flood_water", "a__water"]


def test_changed_files_raise(tmp_path):
    write(tmp_path, [labels_of(1)])
    data = validation(tmp_path)
    Image.fromarray(labels_of(1, 1)).save(tmp_path / "own/labels/val/a.png")
    with pytest.raises(UnreadableImageError, match="size has changed since it was checked"):
        data.datasets["val"][0, 0]


def test_training_prompts_for_present_classes_and_negatives_are_absent(tmp_path):
    maps = [labels_of(1, 2, 255), labels_of(2), labels_of(0, 7, 7)]
    write(tmp_path, maps, split="train")
    write(tmp_path, maps)
    data = data_of(tmp_path, background=[0], prompting=Prompting(negative_prob=0.5))
    data.setup("fit")
    train = data.datasets["train"]
    source = train.source
    tasks = Counter(
        (source.pairs[task, 0], source.phrases[source.phrase(task)]) for task in range(len(source))
    )
    assert tasks == Counter([(0, "flood water"), (0, "road"), (1, "road"), (2, "road sign")])
    for task, (labels, value) in enumerate(
        zip([maps[0]] * 2 + maps[1:], (1, 2, 2, 7), strict=True)
    ):
        assert np.array_equal(source.mask(task), labels == value)
        assert np.array_equal(source.valid(task), labels != 255)
    words = {"flood water": 0, "water": 0, "road": 1, "road sign": 2}
    present, seen = [{0, 1}, {0, 1}, {1}, {2}], set()
    for epoch in range(20):
        for task in range(4):
            (prompt,) = train[epoch, task]["prompts"]
            number = words[prompt["phrase"]]
            assert prompt["negative"] == (number not in present[task])
            assert prompt["query_mask"].any() != prompt["negative"]
            seen.add(prompt["phrase"])
    assert seen == set(words)


def test_photos_of_background_alone_are_trained_with_negatives(tmp_path):
    maps = [labels_of(0, 0, 255), labels_of(1, 0), labels_of(255, 255), labels_of(2, 7)]
    write(tmp_path, maps, split="train")
    write(tmp_path, maps)
    data = data_of(tmp_path, background=[0])
    data.setup("fit")
    train = data.datasets["train"]
    source = train.source
    assert source.pairs[:, 0].tolist() == [1, 3, 3, 0]  # nothing is known about the third photo
    (clean,) = source.without_annotations().tolist()
    assert source.phrase(clean) == -1 and source.possible_phrases(clean).tolist() == []
    assert not source.mask(clean).any()
    assert np.array_equal(source.valid(clean), maps[0] != 255)
    phrases = set()
    for epoch in range(20):
        (prompt,) = train[epoch, clean]["prompts"]
        assert prompt["negative"] and not prompt["query_mask"].any()
        phrases.add(prompt["phrase"])
    assert phrases == {"flood water", "water", "road", "road sign"}


# ---- the benchmarks on the toy world


@pytest.mark.parametrize("name", sorted(OVERLAYS))
def test_overlays_read_the_toy_world(name, miniature):
    settings = {key: value for key, value in OVERLAYS[name].items() if key not in SIZE}
    data = LabelMapsDataModule(str(miniature), **SIZE, **settings)
    data.setup("fit")
    assert data.sizes()[data.val_split] == 40
    key, with_background = settings["classes"], name in ("voc_21", "pascal_context_60")
    expected = list(published_labels()[key].names.values())
    names = list(data.classes.names)
    assert names == (["background", *expected] if with_background else expected)
    assert (() in data.classes.phrasings) == with_background
    if not name.startswith("voc"):
        scene: Scene = draw_labelled(0, "val", 3)
        values = values_of(key)
        ids = {thing: names.index(published_labels()[key].names[value]) for thing, value in
               values.items()}  # fmt: skip
        if key.startswith("pascal"):
            ids.pop("sea")  # another category
        painted = paint_values(scene, {k: v + 1 for k, v in ids.items()}, 0).astype(int) - 1
        expected_map = np.where(painted < 0, 0 if with_background else -1, painted)
        assert np.array_equal(data.datasets["val"][0, 3]["label_map"][0], expected_map)
    assert len(data.datasets["train"]) > 40 and data.datasets["train"][0, 0]["prompts"]


def context(root, **changes):
    """Write Pascal Context's file with one photo and two overlapping annotations."""
    folder = root / "VOCdevkit/VOC2010"
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(folder / "JPEGImages" / "2008_000001.jpg")
    annotations = []
    for category, columns in ((458, slice(0, 4)), (2, slice(3, 5))):
        mask = np.zeros((4, 6), np.uint8, order="F")
        mask[:, columns] = 1
        region = coco_mask.encode(mask)
        encoded = {"size": [4, 6], "counts": region["counts"].decode()}
        annotations.append({"image_id": 1, "category_id": category, "segmentation": encoded})
    photo = {"image_id": 1, "file_name": "2008_000001.jpg", "phase": "val"}
    photo |= {"height": 4, "width": 6}
    content = {"images": [photo], "annos_segmentation": annotations} | changes
    (folder / "trainval_merged.json").write_text(json.dumps(content))
    settings = {k: v for k, v in OVERLAYS["pascal_context_59"].items() if k not in SIZE}
    return LabelMapsDataModule(str(root), **SIZE, **settings)


def test_pascal_context_is_painted_in_the_order_of_its_annotations(tmp_path):
    data = context(tmp_path)
    data.setup("validate")
    names = data.classes.names
    wood, plane = names.index("wood"), names.index("aeroplane")
    row = [wood] * 3 + [plane] * 2 + [-1]
    assert data.datasets["val"][0, 0]["label_map"].tolist() == [[row] * 4]


def test_bad_pascal_context_raises(tmp_path):
    def setup(stage="validate", **changes):
        context(tmp_path, **changes).setup(stage)

    with pytest.raises(DatasetNotFoundError, match="no photo of the split 'train'; splits: val"):
        setup("fit")
    for category in (70000, -1, 0, 2.7, None):
        with pytest.raises(ValueError, match=rf"annotation None: {category} is not a category"):
            setup(annos_segmentation=[{"image_id": 1, "category_id": category}])
    photo = {"file_name": "a/x.jpg", "phase": "val", "height": 4, "width": 6}
    with pytest.raises(ValueError, match="two photos are named x"):
        setup(
            images=[{**photo, "image_id": 1}, {**photo, "image_id": 2, "file_name": "b/x.jpg"}],
            annos_segmentation=[],
        )
    with pytest.raises(ValueError, match="2 annotations are of photos that it does not list"):
        photo = {"image_id": 5, "file_name": "a.jpg", "phase": "val", "height": 4, "width": 6}
        setup(images=[photo])
    with pytest.raises(ValueError, match="not the annotations of Pascal Context"):
        setup(images=5)
    with pytest.raises(ValueError, match="annotation None: segmentation is neither"):
        setup(annos_segmentation=[{"image_id": 1, "category_id": 2, "segmentation": {}}])


def test_command_line_trains_and_evaluates_label_maps(tmp_path):
    for split in ("train", "val"):
        write(tmp_path, [labels_of(1, 2), labels_of(1, 7)], split)
    settings = {
        "images": "own/images/{split}",
        "labels": "own/labels/{split}",
        "train_split": "train",
        "val_split": "val",
        "ignore": "[255]",
        "classes": "{1: water, 2: road, 7: sign}",
    }
    options = [f"--data.init_args.{name}={value}" for name, value in settings.items()]
    config = EXPERIMENTS / "data" / "label_maps.yaml"
    run(*arguments("fit", tmp_path, tmp_path / "run", *options, configs=(config,)))
    assert results(tmp_path / "run")["metrics"]["val/text/pixels"] == 2 * 2 * 4


# ---- real photos


@pytest.mark.slow
@pytest.mark.parametrize("background", [None, [0]])
def test_real_voc_photos_are_evaluated_end_to_end(real_data, background, monkeypatch):
    import lightning

    root = real_data / "voc2012_mini"
    settings = {k: v for k, v in OVERLAYS["voc_20"].items() if k not in SIZE}
    settings |= {"background": background, "ignore": [255] if background else [0, 255]}
    data = LabelMapsDataModule(str(root), image_size=64, batch_size=5, num_workers=0, **settings)
    protocol = SemanticProtocol(0.5)
    module = CLIPSegModule(CLIPBackbone("tiny", pretrained=False), FiLMDecoder, protocol=protocol)
    encoded = Counter()
    encode = module.model.encode

    def counting(images):
        encoded["photos"] += len(images)
        return encode(images)

    monkeypatch.setattr(module.model, "encode", counting)
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.validate(module, data, verbose=False)
    names = (root / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split()
    counts = Counter()
    for name in names:
        with Image.open(root / f"VOC2012/SegmentationClassAug/{name}.png") as image:
            counts.update(np.asarray(image).ravel().tolist())
    labels = range(0 if background else 1, 21)
    counted = [counts[label] for label in labels]
    assert encoded["photos"] == len(names) == 42
    assert module.numbers["val/text/pixels"] == sum(counted) > 0
    assert module.numbers["val/text/miou"] > 0


def test_labels_of_real_photos_are_counted_by_class(real_data):
    root = real_data / "voc2012_mini"
    settings = {k: v for k, v in OVERLAYS["voc_21"].items() if k not in SIZE}
    data = LabelMapsDataModule(str(root), **SIZE, **settings)
    data.setup("validate")
    dataset, total = data.datasets["val"], torch.zeros(22, dtype=torch.long)
    batch = collate([dataset[0, number] for number in range(len(dataset))])
    total += torch.bincount(batch["label_map"].long().flatten() + 1, minlength=22)
    names = (root / "VOC2012/ImageSets/Segmentation/val.txt").read_text().split()
    for number in range(21):
        files = (root / f"VOC2012/SegmentationClassAug/{name}.png" for name in names)
        assert total[number + 1] == sum(int((np.asarray(Image.open(f)) == number).sum()) for f in
                                        files)  # fmt: skip
