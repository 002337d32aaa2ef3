"""Several tables, exports, phrasings and copies of photos in your own data."""

import logging
import shutil

import pytest
import yaml

from clipseg_pl.cli.arguments import Parser
from clipseg_pl.sample import collate
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.image_folder import ImageFolderDataModule, Table
from tests.datasets.own import write_photo, write_photos
from tests.datasets.test_merge import write_coco

SIZE = {"image_size": 16, "batch_size": 4, "num_workers": 0}


def data_of(root, train, **settings):
    return ImageFolderDataModule(str(root), **SIZE, train=Table(train), **settings)


def build(root, train, stage="fit", **settings):
    data = data_of(root, train, **settings)
    data.setup(stage)
    return data


def names(data, split):
    """Return the names of the tasks of a split."""
    source = data.datasets[split].source
    return {source.name(task) for task in range(len(source))}


def write_export(folder, splits, grey):
    """Write an export: split -> photos as in `write_coco`, in greys from `grey` on."""
    for split, photos in splits.items():
        for number, photo in enumerate(photos):
            write_photo(folder / split / photo, grey + number)
        write_coco(folder / split, photos, "_annotations.coco.json")
        grey += len(photos)


CRACKS = {
    "train": {f"{k}.png": [("crack", "square")] for k in range(4)} | {"clean.png": []},
    "valid": {"5.png": [("crack", "bar")], "6.png": []},
    "test": {"7.png": [("crack", "bar")]},
}
JOINTS = {
    "train": {f"{k}.png": [("joint", "bar")] for k in range(10)},
}


@pytest.fixture
def root(tmp_path):
    write_export(tmp_path / "cracks", CRACKS, 10)
    write_export(tmp_path / "joints", JOINTS, 100)
    return tmp_path


# ---- tables


def test_export_fills_all_splits(root):
    data = build(root, "cracks")
    data.setup("test")
    assert names(data, "train") == {*(f"{k}__crack" for k in range(4)), "clean"}
    assert names(data, "val") == {"5__crack", "6"} and names(data, "test") == {"7__crack"}


def test_export_without_validation_split_uses_a_share(root, caplog):
    with caplog.at_level(logging.WARNING):
        data = build(root, ["joints"], val_share=0.2)
    assert data.sizes() == {"train": 8, "val": 2}
    data.setup("test")
    assert names(data, "test") == names(data, "val")
    (line,) = [record.getMessage() for record in caplog.records]
    assert "joints has no validation split: 2 of its 10 training photos are used for it" in line


def test_each_export_contributes_its_own_splits(root):
    data = build(root, ["cracks", "joints"], val_share=0.2)
    data.setup("test")
    assert data.sizes() == {"train": 5 + 8, "val": 2 + 2, "test": 1 + 2}
    cracks = {"cracks_valid_5__crack", "cracks_valid_6"}
    assert names(data, "val") > cracks and "cracks_test_7__crack" in names(data, "test")
    (joints,) = {name.rpartition("_train_")[0] for name in names(data, "val") - cracks}
    assert joints == "joints"


def test_validation_photos_of_a_table_do_not_depend_on_other_tables(root):
    alone, both = (build(root, table, val_share=0.3) for table in ("joints", ["joints", "cracks"]))
    assert {f"joints_train_{name}" for name in names(alone, "val")} < names(both, "val")


def test_given_tables_replace_the_splits_of_an_export(root):
    write_photos(root / "own", [["tree"], ["crack"]], grey=200)
    data = build(root, "cracks", val=Table("own/phrases.csv"))
    data.setup("test")
    assert names(data, "val") == {"images_0__tree", "images_1__crack"}
    assert names(data, "test") == {"7__crack"}
    data = build(root, "joints", stage="test", val=Table("own/phrases.csv"))
    assert data.sizes() == {"test": 2}  # no export has a test split, so that of val is used
    data = build(root, "joints", stage="test", test=Table("cracks"))
    assert names(data, "test") == {"7__crack"}


def test_export_without_the_named_split_is_an_error(root):
    shutil.rmtree(root / "cracks" / "valid")
    with pytest.raises(ValueError, match=r"cracks: the export has no val split: set val.table to"):
        build(root, "joints", val=Table("cracks"))


def test_folders_of_photos_cannot_be_set_for_an_export(root):
    data = ImageFolderDataModule(str(root), **SIZE, train=Table("cracks", images="photos"))
    with pytest.raises(ValueError, match="cracks: images and masks cannot be set for an export"):
        data.setup("fit")


def test_missing_table_of_a_list_is_an_error(root):
    with pytest.raises(DatasetNotFoundError, match=r"nothing: no such table; set .*train.table"):
        build(root, ["cracks", "nothing"])
    with pytest.raises(ValueError, match="set table as well"):
        build(root, [])


@pytest.mark.parametrize("across", [False, True])
def test_negatives_come_from_the_tables_of_the_photo(root, across):
    data = build(root, ["cracks", "joints"], negatives_across_tables=across)
    for split in ("train", "val"):
        dataset, other = data.datasets[split], 0
        for epoch in range(8):
            for task in range(len(dataset)):
                table = dataset.source.name(task).partition("_")[0]
                for prompt in dataset[epoch, task]["prompts"]:
                    of_table = prompt["phrase"] == {"cracks": "crack", "joints": "joint"}[table]
                    other += not of_table
                    assert of_table or prompt["negative"]
        assert bool(other) == across


def test_yaml_file_of_a_yolo_dataset_is_a_table(tmp_path):
    for number in range(3):
        write_photo(tmp_path / f"images/{number}.png", number)
        file = tmp_path / f"labels/{number}.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text("0 0 0 1 0 1 1 0 1")
    (tmp_path / "crack-seg.yaml").write_text("train: images\nnames: [crack]\n")
    data = build(tmp_path, "crack-seg.yaml", val_share=0.34)
    assert data.sizes() == {"train": 2, "val": 1} and data.classes.names == ("crack",)


# ---- photos without annotations


def test_photos_without_annotations_are_shared_between_training_and_validation(tmp_path):
    photos = {f"{k}.png": [("dog", "bar")] if k < 10 else [] for k in range(30)}
    write_coco(tmp_path, photos)
    data = build(tmp_path, "coco.json", val_share=0.2)
    counts = data.summary()
    assert counts["train"] == {
        "photos": 24,
        "without annotations": 16,
        "filled from boxes": 0,
        "phrases": {"dog": 8},
    }
    assert counts["val"]["photos"] == 6 and counts["val"]["without annotations"] == 4
    batch = collate([data.datasets["val"][0, task] for task in range(6)])
    assert batch["negative"].tolist() == [False] * 2 + [True] * 4
    annotated = {photo: objects for photo, objects in photos.items() if objects}
    write_coco(tmp_path, annotated)  # without the others, the annotated photos are split the same
    alone = build(tmp_path, "coco.json", val_share=0.2)
    assert names(alone, "val") == {name for name in names(data, "val") if "dog" in name}


@pytest.mark.parametrize(
    ("train", "tables", "same"),
    [
        ("joints", {}, "val"),
        (["cracks", "joints"], {}, None),  # the cracks have test photos
        ("joints", {"test": Table("cracks/test/_annotations.coco.json")}, None),
        ("joints", {"val": Table("cracks/valid/_annotations.coco.json")}, "val"),
    ],
)
def test_summary_says_if_the_test_photos_are_those_of_validation(root, train, tables, same):
    data = build(root, train, "test", **tables)
    assert data.summary()["test"].get("same photos as") == same
    data.setup("validate")
    assert (names(data, "test") == names(data, "val")) == (same == "val")


def test_data_without_any_annotation_is_an_error(tmp_path):
    write_coco(tmp_path, {"1.png": [], "2.png": []})
    with pytest.raises(ValueError, match=r"nothing to train on: .*for which no phrase is known"):
        build(tmp_path, "coco.json")


# ---- the same photo in two splits


@pytest.mark.parametrize("split", ["valid", "test"])
def test_copies_of_training_photos_are_an_error(root, split):
    name = "5.png" if split == "valid" else "7.png"
    shutil.copy(root / "cracks" / "train" / "2.png", root / "cracks" / split / name)
    stages = ("fit", "validate") if split == "valid" else ("test", "predict")
    for stage in stages:
        with pytest.raises(ValueError) as error:
            build(root, "cracks", stage=stage)
        assert str(error.value) == (
            "1 photos are used for both training and evaluation; first: "
            f"{root / 'cracks' / 'train' / '2.png'} and {root / 'cracks' / split / name} are the "
            "same photo; remove one of each pair"
        )


def test_evaluation_does_not_need_the_training_table(root, caplog):
    shutil.rmtree(root / "joints")
    phrases = {"joint": "a joint", "crack": "a crack"}
    data = build(root, "joints", stage="validate", val=Table("cracks"), phrases=phrases)
    assert names(data, "val") == {"5__a_crack", "6"}
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["training data not found: not checked for copies"]


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_missing_training_photo_is_an_error_of_evaluations(root, stage):
    with pytest.raises(DatasetNotFoundError, match="nothing: no such table"):
        build(root, ["cracks", "nothing"], stage=stage, val=Table("joints"))
    (root / "cracks" / "train" / "0.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 5 photos are missing.*0\.png"):
        build(root, "cracks", stage=stage, val=Table("joints"))


def test_versions_of_a_photo_stay_in_one_split(tmp_path):
    photos = {f"{k}_jpg.rf.{v}.png": [("dog", "bar")] for k in range(10) for v in "abc"}
    photos["0_jpg.rf.d.png"] = []  # the crop does not show the dog
    write_coco(tmp_path, photos)
    for share in (0.1, 0.3, 0.9):
        data = build(tmp_path, "coco.json", val_share=share)
        sources = {
            split: {name.partition("_")[0] for name in names(data, split)}
            for split in ("train", "val")
        }
        assert len(sources["val"]) == round(share * 10) and not sources["train"] & sources["val"]
        assert sum(data.sizes().values()) == 31


# ---- classes of other splits


def write_rare(root, test):
    """Write an export whose class dent is annotated in the training split only."""
    splits = {
        "train": {"0.png": [("crack", "bar")], "1.png": [("dent", "bar")], "2.png": []},
        "valid": {"3.png": [("crack", "bar")]},
        "test": test,
    }
    write_export(root / "rare", splits, 10)


@pytest.mark.parametrize("table", ["rare", ["rare", "joints"]])
def test_classes_of_the_training_split_are_evaluated_as_absent(root, table):
    write_rare(root, {"4.png": [], "5.png": []})
    data = build(root, table)
    assert {"crack", "dent"} <= set(data.classes.names)
    source = data.datasets["val"].source
    task = next(t for t in range(len(source)) if source.name(t).endswith("3__crack"))
    prompts = data.datasets["val"][0, task]["prompts"]
    assert [(p["phrase"], p["negative"]) for p in prompts] == [("crack", False), ("dent", True)]
    assert data.summary()["val"]["phrases"]["dent"] == 0
    train = data.datasets["train"].source
    assert not len(train.vocabulary)


def test_split_without_any_annotation_is_evaluated_with_all_classes(root):
    write_rare(root, {"4.png": [], "5.png": []})
    data = build(root, "rare", stage="test", phrases={"dent": ["a dent", "bump"]})
    for task in range(2):
        prompts = data.datasets["test"][0, task]["prompts"]
        assert {p["phrase"] for p in prompts} == {"crack", "a dent"}
        assert all(p["negative"] for p in prompts)
    assert data.classes.phrasings == (("crack",), ("a dent", "bump"))


def test_ignored_validation_photos_of_an_export_are_logged(root, caplog):
    build(root, "cracks", val=Table("joints"))
    message = "cracks: its validation photos are not used, as val is set"
    assert [message in record.getMessage() for record in caplog.records].count(True) == 1


def test_export_with_one_split_is_used_for_any_split(root, caplog):
    data = build(root, "cracks", val=Table("joints"))
    assert data.sizes()["val"] == 10
    assert "joints: val uses its only split, train" in caplog.text
    assert build(root, "cracks/train", val_share=0.5).sizes() == {"train": 3, "val": 2}


def test_copy_in_another_export_is_left_out_of_training(root, caplog):
    """A copy of a validation photo is in the training split of an export with its own `valid`."""
    alone = build(root, "joints")
    (name,) = names(alone, "val")
    photo = root / "joints" / "train" / f"{name.partition('__')[0]}.png"
    shutil.copy(photo, root / "cracks" / "train" / "0.png")
    data = build(root, ["joints", "cracks"])
    assert "cracks_train_0__crack" not in names(data, "train") | names(data, "val")
    assert "1 photos are copies of validation photos and are left out of training" in caplog.text


def test_skipped_masks_of_merged_tables_are_reported_once(tmp_path, caplog):
    photos = {f"{k}.png": [("crack", "square")] for k in range(10)}
    photos |= {"10.png": [("crack", "square"), ("fissure", "two points")]}
    photos |= {"11.png": [("fissure", "square")]}
    write_coco(tmp_path, photos)
    data = build(tmp_path, "coco.json", phrases={"crack": "crack", "fissure": "crack"})
    data.setup("test")
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "incomplete" in line] == [
        f"{tmp_path / 'coco.json'} (merged): skipped 1 masks left incomplete by a skipped row or "
        "annotation"
    ]
    assert list(data.skipped) == ["coco.json", "coco.json (merged)"]


def test_copies_within_a_table_stay_in_one_split(tmp_path, caplog):
    write_coco(tmp_path, {f"{k}.png": [("dog", "bar")] for k in range(10)})
    validated = names(build(tmp_path, "coco.json"), "val")
    (name,) = validated
    photo = f"{name.partition('__')[0]}.png"
    copy = next(f"{k}.png" for k in range(10) if f"{k}.png" != photo)
    shutil.copy(tmp_path / photo, tmp_path / copy)
    with caplog.at_level(logging.WARNING):
        data = build(tmp_path, "coco.json")
    assert names(data, "val") == {name, f"{copy[:-4]}__dog"} and data.sizes()["train"] == 8
    message = "1 photos are copies of validation photos and are left out of training; first: "
    assert f"{message}{tmp_path / copy}" in caplog.text


# ---- phrases


def test_phrases_are_applied_to_all_splits(root, caplog):
    phrases = {"Crack": ["segment crack", "segment wall crack"]}
    with caplog.at_level(logging.WARNING):
        data = build(root, ["cracks", "joints"], phrases=phrases)
    assert "no phrases are set for joint: class names are used as phrases" in caplog.text
    assert data.classes.names == ("segment crack", "joint")
    assert data.classes.phrasings == (("segment crack", "segment wall crack"), ("joint",))
    shown = {
        data.datasets["train"][epoch, task]["prompts"][0]["phrase"]
        for epoch in range(8)
        for task in range(data.sizes()["train"])
    }
    assert shown == {"segment crack", "segment wall crack", "joint"}


@pytest.mark.parametrize("which", ["first", "all"])
def test_first_or_all_phrasings_are_evaluated(root, which):
    phrases = {"crack": ["a", "b"]}
    data = build(root, "cracks", stage="test", phrases=phrases, evaluate_phrasings=which)
    batch = collate([data.datasets["test"][0, 0]])
    assert batch["prompt_id"] == ["7__a", "7__a__2"][: 1 if which == "first" else 2]
    assert batch["phrase"] == ["a", "b"][: len(batch["phrase"])]
    assert batch["class_id"].tolist() == [0] * len(batch["phrase"])


def test_class_that_only_a_later_split_has_is_known(root):
    write_photos(root / "own", [["tree"]], grey=200)
    settings = {"test": Table("own/phrases.csv"), "phrases": {"tree": "a tree"}}
    assert build(root, "cracks", **settings).sizes() == {"train": 5, "val": 2}
    with pytest.raises(ValueError, match="no table has a class oak; classes: crack, tree"):
        build(root, "cracks", **(settings | {"phrases": {"oak": "a tree"}}))


def test_many_phrases_are_no_classes(tmp_path):
    write_photos(tmp_path, [[f"phrase {k}"] for k in range(120)])
    data = build(tmp_path, "phrases.csv", val_share=0.9)
    assert len(data.datasets["val"].source.phrases) == 108 and not data.classes.names
    assert data.datasets["val"][0, 0]["prompts"][0]["class_id"] == -1
    assert data.summary()["val"]["phrases"] == {} and data.summary()["val"]["photos"] == 108


# ---- settings


def test_settings_are_parsed_from_yaml_and_options(tmp_path):
    parser = Parser(exit_on_error=False)
    parser.add_lightning_class_args(ImageFolderDataModule, "data", subclass_mode=True)
    settings = {
        "root": str(tmp_path),
        "train": {"table": ["one", "two/coco.json"]},
        "boxes": "rectangles",
        "phrases": {"crack": ["segment crack", "segment wall crack"], "dent": None},
    }
    name = "datamodules.image_folder.ImageFolderDataModule"
    text = yaml.safe_dump({"data": {"class_path": name, "init_args": settings}})
    (tmp_path / "own.yaml").write_text(text)
    parser.add_argument("--config", action="config")
    options = ["--config", str(tmp_path / "own.yaml")]
    data = parser.instantiate_classes(parser.parse_args(options)).data
    assert data.tables["train"].table == ["one", "two/coco.json"] and data.boxes == "rectangles"
    assert data.phrases == settings["phrases"]
    options += ["--data.init_args.train.table", '["a", "b"]']
    options += ["--data.init_args.phrases", "phrases.yaml"]
    data = parser.instantiate_classes(parser.parse_args(options)).data
    assert data.tables["train"].table == ["a", "b"] and data.phrases == "phrases.yaml"
    options += ["--data.init_args.train.table", "own/phrases.csv"]
    data = parser.instantiate_classes(parser.parse_args(options)).data
    assert data.tables["train"].table == "own/phrases.csv"
