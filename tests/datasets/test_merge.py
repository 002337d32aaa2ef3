"""Several tables as one dataset, and phrasings of classes."""

import json

import numpy as np
import pytest

from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.image_folder import ImageFolder
from datamodules.datasets.merge import complete_phrasings, merge, read_phrasings
from datamodules.datasets.table_files import read_table
from tests.datasets.own import BAR, SQUARE, write_csv, write_mask, write_photo

POLYGONS = {
    "square": [[4, 4, 20, 4, 20, 20, 4, 20]],
    "bar": [[24, 0, 28, 0, 28, 24, 24, 24]],
    "two points": [[1, 1, 5, 5]],
}


def write_coco(folder, photos, name="coco.json"):
    """Write photos with annotations: photo -> list of (class, shape)."""
    classes = sorted({class_name for objects in photos.values() for class_name, _ in objects})
    images, annotations = [], []
    for number, (photo, objects) in enumerate(photos.items()):
        if not (folder / photo).exists():
            write_photo(folder / photo, number)
        images.append({"id": number, "file_name": photo, "height": 24, "width": 32})
        for class_name, shape in objects:
            entry = {"image_id": number, "category_id": classes.index(class_name)}
            annotations.append({**entry, "segmentation": POLYGONS[shape]})
    categories = [{"id": index, "name": class_name} for index, class_name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / name).write_text(json.dumps(content))
    return read_coco(folder / name, folder)


def masks(source):
    """Return task name -> mask, of all tasks with a phrase."""
    tasks = range(len(source) - len(source.without_annotations()))
    return {source.name(task): source.mask(task) for task in tasks}


def absent(source):
    """Return name of the photo -> phrases known to be absent."""
    found = {}
    for task in range(len(source)):
        possible = source.possible_phrases(task)
        phrases = np.setdiff1d(np.arange(len(source.phrases)), possible).tolist()
        name = source.annotations.photos[int(source._photo[task])]
        found[name] = {source.phrases[index] for index in phrases}
    return found


def rename(tables, **phrases):
    return complete_phrasings(read_phrasings(phrases, tables[0].folder), tables)


@pytest.fixture
def exports(tmp_path):
    """Two tables with equal file names."""
    one, two = tmp_path / "one", tmp_path / "two"
    cracks = {"1.png": [("crack", "square")], "2.png": [("dent", "bar")], "3.png": []}
    joints = {"1.png": [("joint", "bar")], "2.png": [("joint", "square")], "3.png": []}
    return write_coco(one, cracks), write_coco(two, joints)


def test_equal_file_names_are_different_photos(exports):
    source = ImageFolder(merge(exports))
    found = masks(source)
    assert {name: bool((mask == SQUARE).all()) for name, mask in found.items()} == {
        "one_1__crack": True,
        "one_2__dent": False,
        "two_1__joint": False,
        "two_2__joint": True,
    }
    assert all((mask == SQUARE).all() or (mask == BAR).all() for mask in found.values())
    assert len(source.without_annotations()) == 2 and len(source) == 6


def test_phrases_of_other_tables_are_unknown(exports):
    assert absent(ImageFolder(merge(exports))) == {
        "one/1.png": {"dent"},
        "one/2.png": {"crack"},
        "one/3.png": {"crack", "dent"},
        "two/1.png": set(),
        "two/2.png": set(),
        "two/3.png": {"joint"},
    }
    every = absent(ImageFolder(merge(exports, across=True)))
    assert every["one/1.png"] == {"dent", "joint"} and every["two/1.png"] == {"crack", "dent"}
    assert every["two/3.png"] == {"crack", "dent", "joint"}


def test_absent_phrases_follow_selected_phrases(exports):
    """`select` renumbers phrases."""
    source = ImageFolder(merge(exports)).without(lambda phrase: phrase == "crack")
    assert [source.phrases[index] for index in range(2)] == ["dent", "joint"]
    assert absent(source)["one/3.png"] == {"dent"} and absent(source)["two/3.png"] == {"joint"}


def test_photo_in_two_tables_is_one_photo(tmp_path):
    cracks = write_coco(tmp_path, {"1.png": [("crack", "square")], "2.png": []}, "a.json")
    more = {"1.png": [("crack", "bar"), ("joint", "bar")], "2.png": [("joint", "bar")]}
    source = ImageFolder(merge([cracks, write_coco(tmp_path, more, "b.json")]))
    found = masks(source)
    assert found.keys() == {"1__crack", "1__joint", "2__joint"}
    assert np.array_equal(found["1__crack"], SQUARE | BAR)
    assert not len(source.without_annotations())  # b.json annotates photo 2
    assert absent(source)["2.png"] == {"crack"}


@pytest.mark.parametrize("across", [False, True])
def test_phrase_with_an_unusable_annotation_is_unknown_in_all_tables(tmp_path, across):
    """The table a.json has no usable annotation of photo 2, which shows a crack."""
    photos = {"1.png": [("crack", "square")], "2.png": [("crack", "two points")], "3.png": []}
    cracks = write_coco(tmp_path, photos, "a.json")
    tape = {"1.png": [("tape", "bar")], "2.png": [("tape", "bar")], "3.png": []}
    source = ImageFolder(merge([cracks, write_coco(tmp_path, tape, "b.json")], across=across))
    assert masks(source).keys() == {"1__crack", "1__tape", "2__tape"}
    assert absent(source) == {"1.png": set(), "2.png": set(), "3.png": {"crack", "tape"}}


def test_phrase_with_an_unusable_annotation_is_unknown_in_a_table_of_the_same_class(tmp_path):
    photos = {"1.png": [("crack", "two points")], "2.png": [("crack", "bar")]}
    one = write_coco(tmp_path, photos, "a.json")
    photos = {"1.png": [], "2.png": [("crack", "bar")], "3.png": []}
    source = ImageFolder(merge([one, write_coco(tmp_path, photos, "b.json")]))
    assert masks(source).keys() == {"2__crack"}
    assert [source.annotations.photos[k] for k in source._photo[1:]] == ["3.png"]


def test_tables_of_different_formats_are_merged(tmp_path):
    coco = write_coco(tmp_path / "a", {"1.png": [("crack", "square")]})
    write_mask(tmp_path / "b" / "bar.png", BAR)
    write_photo(tmp_path / "b" / "1.png")
    rows = [{"image": "1.png", "mask": "bar.png", "phrase": "crack"}] * 2
    table = write_csv(tmp_path / "b" / "table.csv", rows)
    found = masks(ImageFolder(merge([coco, read_table(table, table.parent, table.parent)])))
    assert np.array_equal(found["a_1__crack"], SQUARE)
    assert found.keys() == {"a_1__crack", "b_1__crack"}
    assert np.array_equal(found["b_1__crack"], BAR)


def test_rows_of_a_table_with_the_same_photo_and_phrase_are_united(tmp_path):
    write_photo(tmp_path / "1.png")
    write_photo(tmp_path / "2.png")
    for name, mask in (("square", SQUARE), ("bar", BAR)):
        write_mask(tmp_path / f"{name}.png", mask)
    rows = [
        {"image": "1.png", "mask": "square.png", "phrase": "crack"},
        {"image": "2.png", "mask": "square.png", "phrase": "crack"},
        {"image": "1.png", "mask": "bar.png", "phrase": "Crack"},
        {"image": "1.png", "mask": "bar.png", "phrase": "dent"},
    ]
    table = read_table(write_csv(tmp_path / "table.csv", rows), tmp_path, tmp_path)
    source = ImageFolder(merge([table]))
    found = masks(source)
    assert found.keys() == {"1__crack", "2__crack", "1__dent"}
    assert np.array_equal(found["1__crack"], SQUARE | BAR)


@pytest.mark.parametrize("repeated", [False, True])
def test_mask_with_a_row_of_ignored_pixels_is_left_out(tmp_path, repeated):
    """The row may hide a part of the object, whatever the other rows of the table are."""
    for name in ("1.png", "2.png"):
        write_photo(tmp_path / name)
    write_mask(tmp_path / "square.png", SQUARE.astype(np.uint8))
    write_mask(tmp_path / "ignored.png", BAR * np.uint8(255))
    rows = [("1.png", "square.png"), ("1.png", "ignored.png"), *[("2.png", "square.png")] * 2]
    listed = [
        {"image": image, "mask": mask, "phrase": "crack", "label": 1}
        for image, mask in rows[: 4 if repeated else 3]
    ]
    file = write_csv(tmp_path / "table.csv", listed)
    table = merge([read_table(file, tmp_path, tmp_path, ignore_label=255)])
    assert masks(ImageFolder(table)).keys() == {"2__crack"}
    assert table.skipped == {"masks left incomplete by a skipped row or annotation": 1}
    assert table.number.tolist() == [4]  # line of the table


def test_single_table_without_phrases_is_returned(exports):
    assert merge(exports[:1]) is exports[0]


def test_ignored_pixels_of_united_tables_are_combined(tmp_path):
    """Pixels that one of the tables ignores are ignored."""
    one = write_coco(tmp_path, {"1.png": [("crack", "square")]}, "a.json")
    two = write_coco(tmp_path, {"1.png": [("crack", "bar")]}, "b.json")
    three = write_coco(tmp_path / "more", {"1.png": [("crack", "bar")]})
    object.__setattr__(one, "valid", lambda row: ~SQUARE)
    object.__setattr__(two, "valid", lambda row: ~BAR)
    merged = merge([one, two, three])
    assert np.array_equal(merged.valid(0), ~(SQUARE | BAR)) and merged.valid(1) is None
    assert merge([three, three]).valid is None


class TestPhrasings:
    def test_rename_and_leave_out(self, exports):
        tables = list(exports)
        source = ImageFolder(merge(tables, rename(tables, crack="a crack", joint=None)))
        assert masks(source).keys() == {"one_1__a_crack", "one_2__dent"}
        # photos 1 and 2 of `two` show joints only, which are left out
        assert len(source.without_annotations()) == 4
        assert absent(source)["two/1.png"] == set() and absent(source)["one/3.png"] == {
            "a crack",
            "dent",
        }

    def test_join(self, tmp_path):
        photos = {
            "1.png": [("crack", "square"), ("Fissure", "bar")],
            "2.png": [("Fissure", "bar"), ("dent", "bar")],
            "3.png": [("dent", "bar")],
        }
        table = write_coco(tmp_path, photos)
        same = ["segment crack", "Segment  Fissure"]
        merged = merge([table], rename([table], crack=same, fissure=same))
        source = ImageFolder(merged)
        found = masks(source)
        assert np.array_equal(found["1__segment_crack"], SQUARE | BAR)
        assert np.array_equal(found["2__segment_crack"], BAR) and len(found) == 4
        index = [source.phrases[k] for k in range(2)].index("segment crack")
        assert source.phrasings(index) == ("segment crack", "segment fissure")
        assert source.phrasings(1 - index) == ("dent",)
        assert absent(source) == {"1.png": {"dent"}, "2.png": set(), "3.png": {"segment crack"}}

    def test_join_leaves_out_masks_that_would_lack_an_object(self, tmp_path):
        photos = {
            "1.png": [("crack", "square"), ("fissure", "two points")],
            "2.png": [("crack", "square"), ("fissure", "bar")],
        }
        table = write_coco(tmp_path, photos)
        assert masks(ImageFolder(merge([table]))).keys() >= {"1__crack"}
        merged = merge([table], rename([table], crack="crack", fissure="crack"))
        assert masks(ImageFolder(merged)).keys() == {"2__crack"}
        assert not len(merged.without_annotations())  # photo 1 shows something
        assert list(merged.skipped.values()) == [1]

    def test_class_joins_a_class_of_the_same_name_in_another_table(self, tmp_path):
        one = write_coco(tmp_path / "one", {"1.png": [("crack", "square")], "2.png": []})
        two = write_coco(tmp_path / "two", {"1.png": [("cracks_3", "bar")], "2.png": []})
        source = ImageFolder(merge([one, two], rename([one, two], **{"Cracks 3": "crack"})))
        assert masks(source).keys() == {"one_1__crack", "two_1__crack"} and len(source.phrases) == 1
        assert absent(source)["two/2.png"] == {"crack"}

    def test_boxes_are_counted_by_row(self, tmp_path):
        table = write_coco(tmp_path, {"1.png": [("a", "bar"), ("b", "bar"), ("c", "bar")]})
        object.__setattr__(table, "row_boxes", np.array([1, 2, 4]))
        merged = merge([table, table], rename([table], a="a", b="a", c=None))
        assert merged.row_boxes.tolist() == [6] and merged.boxes == 6  # twice 1 + 2

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("crack: [A crack, a  CRACK, fissure]\n", {"crack": ("a crack", "fissure")}),
            ('{"Drywall_Join": "tape", "x": null}', {"drywall join": ("tape",), "x": ()}),
            ("0: zero\nempty: []\n", {"0": ("zero",), "empty": ()}),
        ],
    )
    def test_are_read_from_files(self, tmp_path, text, expected):
        (tmp_path / "phrases.yaml").write_text(text)
        assert read_phrasings("phrases.yaml", tmp_path) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("- crack\n", "not a mapping from classes to phrases"),
            ("", "not a mapping from classes to phrases"),
            ("a: [b\n", "not YAML"),
            ("a: {b: c}\n", "a has the phrases {'b': 'c'}"),
            ("a: [b, 3]\n", "a has the phrases ['b', 3]"),
            ("a: ['']\n", "a has the phrases ['']"),
            ("a: true\n", "a has the phrases True"),
            ("a: no\n", "a has the phrases False"),
            ("a: 0\n", "a has the phrases 0"),
            ("a: {}\n", "a has the phrases {}"),
            ("no: b\n", "class False is not a string"),
            ("Crack: a\ncrack: b\n", "class crack occurs twice"),
        ],
    )
    def test_malformed_files_give_one_line(self, tmp_path, text, message):
        (tmp_path / "phrases.yaml").write_text(text)
        with pytest.raises(ValueError) as error:
            read_phrasings("phrases.yaml", tmp_path)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert str(error.value).startswith(str(tmp_path / "phrases.yaml"))

    def test_missing_file_is_an_error(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"nothing.yaml: no such file"):
            read_phrasings("nothing.yaml", tmp_path)

    def test_unknown_class_is_an_error(self, exports):
        with pytest.raises(ValueError) as error:
            rename(exports, crak="crack", joint="a joint")
        expected = "phrases: no table has a class crak; classes: crack, dent, joint"
        assert str(error.value) == expected

    @pytest.mark.parametrize(
        "phrases",
        [{"crack": ["a", "b"], "dent": ["b"]}, {"crack": "dent", "dent": ["dent", "bump"]}],
    )
    def test_phrase_in_two_lists_is_an_error(self, exports, phrases):
        with pytest.raises(ValueError, match="is in two different lists"):
            rename(exports, **phrases)

    def test_phrase_that_is_the_name_of_another_class_is_an_error(self, exports):
        with pytest.raises(ValueError, match="'dent' is in two different lists"):
            rename(exports, crack=["crack", "dent"])
