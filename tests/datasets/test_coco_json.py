"""COCO's annotation format, compared with masks made by hand and with pycocotools."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.coco_masks import encode
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.image_folder import ImageFolder
from datamodules.toy.language.words import kind_name
from datamodules.toy.writers.folder import build_folders
from datamodules.toy.writers.own import draw_own, own_request
from tests.datasets.own import BAR, SQUARE, rectangle, write_photo, write_turned

FULL = coco_mask.encode(np.ones((100, 100), np.uint8, order="F"))["counts"].decode()
POLYGON = [4.0, 4.0, 20.0, 4.0, 20.0, 20.0, 4.0, 20.0]
BAR_RUNS = {"size": [24, 32], "counts": [24 * 24, 24 * 4, 24 * 4]}  # runs go down the columns
CATEGORIES = [{"id": 3, "name": "traffic_light"}, {"id": 9, "name": "Dog"}]


def text_of(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [*mask.shape], "counts": encoded["counts"].decode()}


def image(number, **more):
    return {"id": number, "height": 24, "width": 32, "file_name": f"{number}.png", **more}


def annotation(number, image, category, segmentation, **more):
    entry = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0}
    return {**entry, "segmentation": segmentation, **more}


CONTENT = {
    "images": [image(1), image(2), image(3)],
    "categories": CATEGORIES,
    "annotations": [
        annotation(1, 1, 9, [POLYGON]),
        annotation(2, 1, 9, BAR_RUNS, iscrowd=1),
        annotation(3, 1, 3, text_of(BAR)),
        annotation(4, 2, 3, [POLYGON, [24, 0, 28, 0, 28, 24, 24, 24]]),
        annotation(5, 2, 9, [POLYGON], caption="the big dog"),
        annotation(6, 2, 9, [POLYGON], phrase="My dog", caption="the big dog"),
    ],
}


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2):  # the third image has no annotations, and no file
        write_photo(tmp_path / f"{number}.png", number)
    return tmp_path


def read(folder, rectangles=False, **change):
    file = folder / "coco.json"
    file.write_text(json.dumps({**CONTENT, **change}))
    return read_coco(file, folder, rectangles)


def tasks(annotations):
    """Return the mask of each photo name and phrase."""
    photos, phrases = annotations.photo.tolist(), annotations.phrase.tolist()
    return {
        (annotations.photos[photo], annotations.phrases[phrase]): annotations.masks(row)
        for row, (photo, phrase) in enumerate(zip(photos, phrases, strict=True))
    }


def test_instances_of_a_phrase_are_merged_to_one_mask(folder):
    source = ImageFolder(read(folder))
    found = {
        (int(source.image(task)[0, 0, 0]), source.phrases[source.phrase(task)]): source.mask(task)
        for task in range(len(source))
    }
    expected = {
        (1, "dog"): SQUARE | BAR,  # includes the crowd
        (1, "traffic light"): BAR,
        (2, "traffic light"): SQUARE | BAR,
        (2, "the big dog"): SQUARE,
        (2, "my dog"): SQUARE,
    }
    assert found.keys() == expected.keys() and len(source) == 5
    for key, mask in expected.items():
        assert np.array_equal(found[key], mask) and found[key].dtype == bool
    names = [source.name(task) for task in range(5)]
    assert names == [
        "1__dog",
        "1__traffic_light",
        "2__traffic_light",
        "2__the_big_dog",
        "2__my_dog",
    ]


@pytest.mark.parametrize(
    ("segmentation", "mask"),
    [
        ([[4, 4, 8, 4, 8, 10, 4, 10]], rectangle(4, 10, 4, 8)),
        ([[4, 4, 8, 4, 8, 10, 4, 10], [6, 4, 12, 4, 12, 6, 6, 6]], "union"),
        ([[-5, -5, 3, -5, 3, 2, -5, 2]], rectangle(0, 2, 0, 3)),  # clipped at the edge of the photo
        ({"size": [24, 32], "counts": [0, 768]}, rectangle(0, 24, 0, 32)),
        ({"size": [24, 32], "counts": [25, 2, 22, 2, 717]}, rectangle(1, 3, 1, 3)),
    ],
)
def test_masks_match_those_made_by_hand(folder, segmentation, mask):
    if isinstance(mask, str):
        mask = rectangle(4, 10, 4, 8) | rectangle(4, 6, 6, 12)
    source = ImageFolder(read(folder, annotations=[annotation(1, 1, 9, segmentation)]))
    assert np.array_equal(source.mask(0), mask)


@given(st.lists(st.booleans(), min_size=768, max_size=768))
def test_compressed_run_lengths_are_read(pixels):
    mask = np.array(pixels).reshape(24, 32)
    (region,) = encode(text_of(mask), 24, 32, "annotation 1")
    assert np.array_equal(coco_mask.decode(region), mask)


def test_truncated_run_lengths_are_an_error():
    text = text_of(np.arange(24 * 32).reshape(24, 32) % 7 < 3)["counts"]
    for length in range(len(text)):
        truncated = {"size": [24, 32], "counts": text[:length]}
        with pytest.raises(ValueError, match="annotation 1: run lengths do not add up"):
            encode(truncated, 24, 32, "annotation 1")


def test_skipped_annotations_are_counted(folder):
    more = [
        annotation(7, 1, 9, None, phrase="x"),
        annotation(8, 1, 9, [[1, 1, 5, 5]], phrase="two points"),
        annotation(9, 1, 9, [], phrase="y"),
        annotation(10, 1, 9, [POLYGON], phrase="  "),
    ]
    annotations = read(folder, annotations=[*CONTENT["annotations"], *more])
    assert len(annotations.photo) == 5 and annotations.skipped == {
        "without a segmentation": 2,
        "with polygons of fewer than three points": 1,
        "without a phrase": 1,
        "photos without annotations whose files are missing": 1,
    }


def test_photos_without_annotations_are_kept(folder):
    write_photo(folder / "3.png", 3)
    annotations = read(folder)
    assert [annotations.photos[index] for index in range(3)] == ["1.png", "2.png", "3.png"]
    assert annotations.without_annotations().tolist() == [2] and not annotations.skipped
    only = read(folder, annotations=[])
    assert only.without_annotations().tolist() == [0, 1, 2] and not len(only.phrases)
    federated = [image(1), image(2), image(3, neg_category_ids=[9])]  # LVIS
    assert not len(read(folder, images=federated).without_annotations())


def test_photos_with_skipped_annotations_only_are_not_without_annotations(folder):
    write_photo(folder / "3.png", 3)
    two_points = annotation(7, 3, 9, [[1, 1, 5, 5]])
    annotations = read(folder, annotations=[*CONTENT["annotations"], two_points])
    assert len(annotations.photos) == 3 and not len(annotations.without_annotations())
    assert annotations.unknown.tolist() == [[2, list(tasks(annotations)).index(("1.png", "dog"))]]
    assert annotations.skipped == {
        "with polygons of fewer than three points": 1,
        "photos without a usable annotation": 1,
    }


def test_masks_that_lack_an_object_are_left_out(folder):
    """Photo 1 has two dogs, one of which cannot be drawn; its traffic light is complete."""
    two_points = annotation(7, 1, 9, [[1, 1, 5, 5]])
    annotations = read(folder, annotations=[*CONTENT["annotations"], two_points])
    assert ("1.png", "dog") not in tasks(annotations)
    assert ("1.png", "traffic light") in tasks(annotations)
    assert annotations.skipped["masks left incomplete by a skipped annotation"] == 1
    source = ImageFolder(read(folder, annotations=[*CONTENT["annotations"], two_points]))
    task = next(t for t in range(len(source)) if source.name(t) == "1__traffic_light")
    possible = {source.phrases[index] for index in source.possible_phrases(task).tolist()}
    assert possible == {"traffic light"}  # "dog" has no complete mask, and is never a negative
    other = annotation(8, 2, 9, [POLYGON])
    source = ImageFolder(read(folder, annotations=[*CONTENT["annotations"], two_points, other]))
    task = next(t for t in range(len(source)) if source.name(t) == "1__traffic_light")
    possible = {source.phrases[index] for index in source.possible_phrases(task).tolist()}
    assert possible == {"traffic light", "dog"}  # the dog of photo 1 is neither target nor absent


def test_polygons_of_two_points_beside_others_are_dropped(folder):
    entry = annotation(1, 1, 9, [POLYGON, [24, 0, 28, 24]], bbox=[0, 0, 32, 24])
    annotations = read(folder, True, annotations=[entry])
    assert np.array_equal(annotations.masks(0), SQUARE) and annotations.boxes == 0
    (reason,) = [reason for reason in annotations.skipped if "points" in reason]
    assert reason.startswith("polygons of fewer than three points in annotations with")
    only = annotation(1, 1, 9, [[24, 0, 28, 24]], bbox=[0, 0, 32, 24])
    with pytest.raises(ValueError, match="no usable rows; skipped: 1 with polygons of fewer"):
        read(folder, True, images=[image(1)], annotations=[only])  # its box is not used


def test_only_used_categories_are_phrases(folder):
    root = {"id": 0, "name": "Traffic_Root"}
    annotations = read(folder, categories=[root, *CATEGORIES])
    phrases = {annotations.phrases[index] for index in range(len(annotations.phrases))}
    assert phrases == {"dog", "traffic light", "the big dog", "my dog"}
    assert annotations.unused == ("traffic root",)


class TestBoxes:
    """Annotations with a box and no mask."""

    @pytest.mark.parametrize("no_mask", [{}, {"segmentation": None}, {"segmentation": []}])
    @pytest.mark.parametrize(
        ("bbox", "mask"),
        [
            ([4, 4, 16, 16], SQUARE),
            ([24.0, 0.0, 4.0, 24.0], BAR),
            ([24, -10, 4, 100], BAR),  # clipped to the photo
            ([-3, -2, 5, 5], rectangle(0, 3, 0, 2)),
            ([30, 20, 9, 9], rectangle(20, 24, 30, 32)),
        ],
    )
    def test_are_filled(self, folder, no_mask, bbox, mask):
        entry = {"id": 1, "image_id": 1, "category_id": 9, "bbox": bbox, **no_mask}
        annotations = read(folder, True, annotations=[entry])
        assert np.array_equal(annotations.masks(0), mask) and annotations.boxes == 1

    def test_are_united_with_masks_and_counted_by_row(self, folder):
        entries = [
            annotation(1, 1, 9, [POLYGON]),
            annotation(2, 1, 9, [], bbox=[24, 0, 4, 24]),
            annotation(3, 1, 3, [POLYGON], bbox=[24, 0, 4, 24]),  # has a mask
            annotation(4, 2, 3, [], bbox=[4, 4, 16, 16]),
            annotation(5, 2, 3, [], bbox=[24, 0, 4, 24]),
        ]
        annotations = read(folder, True, annotations=entries)
        found = tasks(annotations)
        assert np.array_equal(found["1.png", "dog"], SQUARE | BAR)
        assert np.array_equal(found["1.png", "traffic light"], SQUARE)
        assert np.array_equal(found["2.png", "traffic light"], SQUARE | BAR)
        assert annotations.boxes == 3 and annotations.row_boxes.tolist() == [1, 0, 2]

    def test_are_rejected_by_default(self, folder):
        boxes = [
            annotation(7, 1, 9, [], bbox=[4, 4, 2, 2]),
            annotation(8, 2, 9, None, bbox=[1] * 4),
        ]
        with pytest.raises(ValueError) as error:
            read(folder, annotations=[*CONTENT["annotations"], *boxes])
        assert str(error.value) == (
            f"{folder / 'coco.json'}: 2 annotations have a box and no mask: to fill the boxes, set "
            "`boxes: rectangles` in the config (--data.init_args.boxes rectangles), or export "
            "polygons"
        )

    @pytest.mark.parametrize("rectangles", [False, True])
    def test_outside_the_photo_or_without_area_are_skipped(self, folder, rectangles):
        outside = [[32, 0, 4, 4], [0, 24, 4, 4], [-9, 0, 9, 4], [0, -4, 4, 4]]
        flat = [[4, 4, 0, 4], [4, 4, 4, 0], [4, 4, -2, 4]]
        boxes = [
            annotation(number, 2, 9, [], bbox=bbox, phrase=f"phrase {number}")
            for number, bbox in enumerate([*outside, *flat], 7)
        ]
        annotations = read(folder, rectangles, annotations=[*CONTENT["annotations"], *boxes])
        assert annotations.skipped["with a box outside the photo"] == 4
        assert annotations.skipped["with a box without area"] == 3
        assert tasks(annotations).keys() == tasks(read(folder)).keys()

    def test_without_numbers_are_an_error(self, folder):
        for bbox in ([1, 2, 3], [1, 2, 3, "x"], [1, 2, 3, None], 5, [1, 2, 3, float("nan")]):
            with pytest.raises(ValueError, match=r"annotation 7: bbox is not a list of four"):
                read(folder, True, annotations=[annotation(7, 1, 9, [], bbox=bbox)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "no list of images"),
        ({"images": [1]}, "entry 1 of images is not an object"),
        ({"images": [image(1), {"height": 2}]}, "entry 2 of images (id None): id is missing or"),
        (
            {"images": [image([1])]},
            "entry 1 of images (id [1]): id is missing or neither an integer",
        ),
        ({"images": [image(1.5)]}, "(id 1.5): id is missing or neither an integer nor a"),
        ({"images": [image(True)]}, "(id True): id is missing or neither an integer nor a"),
        ({"annotations": {}}, "no list of annotations"),
        ({"annotations": [1]}, "entry 1 of annotations has no image_id"),
        ({"annotations": [{"id": 1}]}, "entry 1 of annotations has no image_id"),
        ({"annotations": [annotation(7, [1], 9, [])]}, "7 has image_id [1], which is not an id"),
        (
            {"annotations": [annotation(7, 1, [9], [])]},
            "7 has category_id [9], which is not an id",
        ),
        ({"annotations": [annotation(7, True, 9, [])]}, "7 has image_id True, which is not an id"),
        (
            {"annotations": [annotation(7, "1", 9, [])]},
            "annotation 7 has image_id '1' (string), but images has id 1 (number); write both",
        ),
        (
            {"annotations": [annotation(7, 1, "9", [])]},
            "annotation 7 has category_id '9' (string), but categories has id 9 (number); write",
        ),
        (
            {"images": [image("1", file_name="1.png")]},
            "annotation 1 has image_id 1 (number), but images has id '1' (string); write both",
        ),
        (
            {"images": [image(1), image(2), image(1, file_name="other.png")]},
            "images has duplicate id 1, for '1.png' and for 'other.png'",
        ),
        (
            {"images": [image(1), image(2), image(1.0, file_name="other.png")]},
            "images has duplicate id 1, for '1.png' and for 'other.png'",
        ),
        (
            {"categories": [*CATEGORIES, {"id": 9, "name": "dent"}]},
            "categories has duplicate id 9, for 'Dog' and for 'dent'",
        ),
        *(
            (
                {"annotations": [annotation(7, 1, 9, [], phrase=phrase)]},
                f"7: phrase {phrase!r} is not",
            )
            for phrase in (["dog"], {}, 3, 0)
        ),
        ({"categories": [1]}, "entry 1 of categories is not an object"),
        (
            {"categories": [{"id": 3}]},
            "entry 1 of categories (id 3): name is missing or not a string",
        ),
        ({"categories": [{"id": 3, "name": None}]}, "(id 3): name is missing or not a string"),
        (
            {"images": [image(1, height=None)]},
            "entry 1 of images (id 1): height or width is missing",
        ),
        (
            {"images": [image(1, width=0)]},
            "entry 1 of images (id 1): height or width is missing or",
        ),
        ({"images": [{"id": 1, "height": 2, "width": 2}]}, "(id 1): file_name is missing or not a"),
        (
            {"images": [image(1), image(2, file_name="./1.png")]},
            "images 1 and 2 are both the file 1.png; list each photo once",
        ),
        ({"images": [image(1, file_name=3)]}, "entry 1 of images (id 1): file_name is missing or"),
        ({"images": [image(1)]}, "annotation 4 has image_id 2, which is not an id in images"),
        ({"categories": CATEGORIES[:1]}, "1 has category_id 9, which is not an id in categories"),
        *(
            ({"annotations": [annotation(7, 1, 9, bad)]}, f"annotation 7: {message}")
            for bad, message in (
                ([POLYGON[:-1]], "a polygon must be a list of numbers"),
                ([["a", "b"]], "a polygon must be a list of numbers"),
                ([[float("nan")] * 6], "a polygon must be a list of numbers"),
                ([[1e9] * 6], "a polygon must be a list of numbers"),  # pycocotools would crash
                ([[[1, 2], [3, 4], [5, 6]]], "a polygon must be a list of numbers"),
                ([None], "a polygon must be a list of numbers"),
                ("polygons", "segmentation is neither"),
                ({"size": None, "counts": [768]}, "segmentation is neither"),
                ({"counts": [768]}, "segmentation is neither"),
                ({"size": [32, 24], "counts": [768]}, "segmentation is neither"),
                *(
                    ({"size": [24, 32], "counts": counts}, "run lengths do not add up")
                    for counts in ([767], [], [-1, 769], None, FULL)
                ),
            )
        ),
    ],
)
def test_invalid_annotations_raise_one_line(folder, change, message):
    with pytest.raises(ValueError) as error:
        read(folder, **change)
    text = str(error.value)
    assert text.startswith(f"{folder / 'coco.json'}: invalid COCO annotations (")
    assert message in text and "\n" not in text


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"images": [', b"\xff\xfe"])
def test_malformed_file_raises_one_line(tmp_path, content):
    (tmp_path / "coco.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"coco.json: invalid COCO annotations") as error:
        read_coco(tmp_path / "coco.json", tmp_path)
    assert "\n" not in str(error.value)


def test_file_without_usable_annotations_is_an_error(folder):
    with pytest.raises(ValueError, match=r"coco.json: no usable rows; skipped: none"):
        read(folder, images=[], annotations=[])
    with pytest.raises(ValueError, match=r"no usable rows; skipped: 1 without a segmentation"):
        read(folder, images=[image(1)], annotations=[annotation(1, 1, 9, None)])


def test_missing_and_resized_photos_are_an_error(folder):
    write_photo(folder / "2.png", size=(32, 24))
    with pytest.raises(ValueError, match=r"1 photos differ .* first: 2.png is 32 x 24"):
        read(folder)
    (folder / "2.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 2 photos are missing .*/2.png"):
        read(folder)


def test_floats_without_fraction_are_accepted_as_ids(folder):
    changed = {
        "images": [{**entry, "id": float(entry["id"])} for entry in CONTENT["images"]],
        "annotations": [{**entry, "category_id": 9.0} for entry in CONTENT["annotations"]],
    }
    assert len(read(folder, **changed).photo) == 4  # photo 1 has one category now
    whole = [{**entry, "image_id": float(entry["image_id"])} for entry in CONTENT["annotations"]]
    assert len(read(folder, annotations=whole).photo) == 5


def test_size_mismatch_by_exif_orientation_is_explained(folder):
    write_turned(folder / "2.png")
    with pytest.raises(
        ValueError, match=r"2.png is stored as 32 x 24 pixels .* turns it to 24 x 32"
    ):
        read(folder)


def test_images_with_image_id_and_annotations_with_file_name_are_accepted(folder):
    entries = [image(1, image_id=1), image(2, image_id=2)]
    named = [{**entry, "file_name": "1.png"} for entry in CONTENT["annotations"]]
    assert len(read(folder, images=entries, annotations=named).photo) == 5


def test_photos_are_found_by_coco_url(folder):
    (folder / "train2017").mkdir()
    (folder / "1.png").rename(folder / "train2017" / "1.png")
    entry = {"id": 1, "height": 24, "width": 32, "coco_url": "http://x.org/train2017/1.png"}
    source = ImageFolder(read(folder, images=[entry], annotations=CONTENT["annotations"][:3]))
    assert (source.image(0) == 1).all()


def test_toy_annotations_match_the_drawn_scenes(tmp_path):
    build_folders(tmp_path, own_request({"all": 4}, 3), progress=False)
    source = ImageFolder(read_coco(tmp_path / "own" / "coco.json", tmp_path / "own"))
    tasks = 0
    for index in range(4):
        scene = draw_own(3, index)
        drawn = {}
        for thing in scene.things:
            name = kind_name(thing.kind)
            drawn[name] = drawn.get(name, False) | thing.mask
        for name, mask in drawn.items():
            (task,) = (
                task
                for task in range(len(source))
                if source.phrases[source.phrase(task)] == name
                and source.name(task).startswith(f"images_{index + 1:04}__")
            )
            assert np.abs(source.image(task).astype(int) - scene.image).mean() < 6  # JPEG
            assert (source.mask(task) & mask).sum() > 0.9 * (source.mask(task) | mask).sum()
            tasks += 1
    assert tasks == len(source)


def test_masks_of_real_annotations_have_the_published_areas(real_data, tmp_path):
    """Three photos of LVIS v0.5; LVIS gives the expected areas."""
    mini = real_data / "lvis_mini"
    content = json.loads((mini / "lvis_val_100.json").read_text())
    files = {int(file.stem): file.name for file in (mini / "val2017").glob("*.jpg")}
    content["images"] = [
        {**entry, "file_name": files[entry["id"]]}
        for entry in content["images"]
        if entry["id"] in files
    ]
    chosen = [entry for entry in content["annotations"] if entry["image_id"] in files]
    (tmp_path / "lvis.json").write_text(json.dumps({**content, "annotations": chosen}))
    source = ImageFolder(read_coco(tmp_path / "lvis.json", mini / "val2017"))
    areas_of = {}
    for entry in chosen:
        areas_of.setdefault((entry["image_id"], entry["category_id"]), []).append(entry["area"])
    assert len(source) == len(areas_of) > 3
    compared = 0
    for task, areas in enumerate(areas_of.values()):
        mask = source.mask(task)
        assert source.image(task).shape[:2] == mask.shape
        if len(areas) == 1 and areas[0] > 1000:
            assert mask.sum() == pytest.approx(areas[0], rel=0.03)
            compared += 1
    assert compared
