"""Mask files on disk, read back with other libraries."""

import contextlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from clipseg_pl.inference.editing import UNEDITED, Edits
from clipseg_pl.inference.file_names import name_prompts
from clipseg_pl.inference.mask_files import MaskFiles
from clipseg_pl.inference.mask_formats import FORMATS
from clipseg_pl.inference.overlay import colour, draw_overlay
from clipseg_pl.inference.polygons import trace
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.photo_files import PhotoFile
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.exports import read_export

PROMPTS = ("a dog", "sky", "nothing")
PHOTOS = [PhotoFile(Path(f"in/{n}.jpg"), f"{n}.jpg", n) for n in ("a", "sub/b", "sub/c")]
PIXELS = np.random.default_rng(9).integers(0, 256, (8, 11, 3), np.uint8)


def result(seed, absent_cut=0.0):
    rng = np.random.default_rng(seed)
    probability = rng.random((3, 8, 11)).astype(np.float32)
    probability[2] /= 4
    return Segmentation(PROMPTS, probability, np.float32([0.9, 0.8, 0.25]), 0.5, absent_cut)


def write(folder, form, overlay=False, results=None, edits=UNEDITED, prompts=PROMPTS):
    results = results or [result(number) for number in range(3)]
    with MaskFiles(folder, prompts, form, overlay, edits) as files:
        for number, (photo, shown) in enumerate(zip(PHOTOS, results, strict=True)):
            files.write(photo, number, PIXELS, shown)
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))


def test_png_writes_one_mask_per_prompt(tmp_path):
    names = write(tmp_path, "png")
    assert names == sorted(
        f"{photo.stem}_{name}.png" for photo in PHOTOS for name in ("a_dog", "sky", "nothing")
    )
    mask = np.array(Image.open(tmp_path / "sub" / "b_sky.png"))
    assert (mask == 255 * (result(1).probability[1] > 0.5)).all()


def test_npy_contains_the_probabilities(tmp_path):
    assert write(tmp_path, "npy") == ["a.npy", "prompts.json", "sub/b.npy", "sub/c.npy"]
    saved = np.load(tmp_path / "a.npy")
    assert saved.dtype == np.float16
    assert np.allclose(saved, result(0).probability, atol=1e-3)
    assert [entry["prompt"] for entry in json.loads((tmp_path / "prompts.json").read_text())] == [
        *PROMPTS
    ]


def test_label_maps_use_the_colours_of_the_overlay(tmp_path):
    names = write(tmp_path, "labels", overlay=True)
    assert "sub/c_labels.png" in names and "sub/c_overlay.png" in names
    image = Image.open(tmp_path / "a_labels.png")
    assert image.mode == "P" and (np.array(image) == result(0).argmax()).all()
    legend = json.loads((tmp_path / "prompts.json").read_text())
    shown = np.array(image.convert("RGB"))
    for entry in legend:
        pixels = shown[np.array(image) == entry["label"]]
        assert (pixels == entry["colour"]).all()
    assert (shown[np.array(image) == 0] == 0).all()


def test_rle_is_readable_with_pycocotools(tmp_path):
    assert write(tmp_path, "rle") == ["masks.json"]
    entries = json.loads((tmp_path / "masks.json").read_text())
    assert [entry["file_name"] for entry in entries] == [p.name for p in PHOTOS for _ in PROMPTS]
    assert [entry["prompt"] for entry in entries] == [*PROMPTS] * 3
    assert [entry["score"] for entry in entries[:3]] == [0.9, 0.8, 0.25]
    for number in range(3):
        for row in range(3):
            decoded = coco_mask.decode(entries[3 * number + row]["segmentation"])
            assert (decoded == result(number).masks[row]).all()
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": number + 1, "height": 8, "width": 11} for number in range(3)],
        "categories": [{"id": number + 1} for number in range(3)],
    }
    coco.createIndex()
    with contextlib.redirect_stdout(None):
        found = coco.loadRes(entries)
    assert (found.annToMask(found.loadAnns([5])[0]) == result(1).masks[1]).all()


def test_minus_masks_are_subtracted(tmp_path):
    edits = Edits(grow=1, invert=True)
    names = write(tmp_path, "png", edits=edits, prompts=PROMPTS[:1])
    assert names == ["a_a_dog.png", "sub/b_a_dog.png", "sub/c_a_dog.png"]
    plus, minus = result(1).split(1)
    mask = np.array(Image.open(tmp_path / "sub" / "b_a_dog.png"))
    assert (mask == plus.edit(edits, minus)[0]).all() and (mask != plus.edit(edits)[0]).any()


@pytest.mark.parametrize(
    ("form", "ending"), [("png", ""), ("soft", "_soft"), ("cutout", "_cutout")]
)
def test_union_is_one_image(tmp_path, form, ending):
    edits = Edits(union=True) if form == "soft" else Edits(union=True, feather=1)
    names = write(tmp_path, form, overlay=True, edits=edits)
    assert names[:2] == ["a_overlay.png", f"a_union{ending}.png"] and len(names) == 6
    image = np.array(Image.open(tmp_path / names[1]))
    if form == "cutout":
        expected = result(0).cutouts(PIXELS, edits)
    else:
        expected = result(0).soft(edits) if form == "soft" else result(0).edit(edits)
    assert image.dtype == np.uint8 and (image == expected[0]).all()


def test_union_has_one_coco_result_with_the_highest_score(tmp_path):
    write(tmp_path, "rle", edits=Edits(union=True, grow=1))
    entries = json.loads((tmp_path / "masks.json").read_text())
    assert [(e["image_id"], e["category_id"]) for e in entries] == [(1, 1), (2, 1), (3, 1)]
    assert entries[0]["prompt"] == "a dog, sky, nothing" and entries[0]["score"] == 0.9
    decoded = coco_mask.decode(entries[2]["segmentation"])
    assert (decoded * 255 == result(2).edit(Edits(union=True, grow=1))[0]).all()


def test_overlay_shows_the_edited_masks(tmp_path):
    edits = Edits(union=True, invert=True, feather=3)
    write(tmp_path, "png", overlay=True, edits=edits)
    shown = result(0).edit(Edits(union=True, invert=True)) > 0
    expected = draw_overlay(PIXELS, shown, ["all but a dog, sky, nothing"])
    assert (np.array(Image.open(tmp_path / "a_overlay.png")) == np.array(expected)).all()


def test_edits_that_the_format_cannot_show_are_rejected(tmp_path):
    with pytest.raises(ValueError, match=r"^feather cannot be combined with the format rle"):
        MaskFiles(tmp_path, PROMPTS, "rle", False, Edits(feather=1))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_rle_file_is_written_after_keyboard_interrupt_but_not_after_an_error(tmp_path, error):
    with pytest.raises(error), MaskFiles(tmp_path, PROMPTS, "rle", overlay=False) as files:
        files.write(PHOTOS[0], 0, None, result(0))
        raise error
    interrupted = error is KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["masks.json"] * interrupted
    assert not interrupted or len(json.loads((tmp_path / "masks.json").read_text())) == len(PROMPTS)


def test_rle_entries_are_sorted_by_photo(tmp_path):
    with MaskFiles(tmp_path, PROMPTS, "rle", overlay=False) as files:
        for number in (2, 0, 1):
            files.write(PHOTOS[number], number, None, result(number))
    entries = json.loads((tmp_path / "masks.json").read_text())
    assert [entry["image_id"] for entry in entries] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [entry["category_id"] for entry in entries] == [1, 2, 3] * 3


def test_absent_prompts_have_empty_masks(tmp_path):
    absent = [result(number, absent_cut=0.85) for number in range(3)]
    write(tmp_path, "png", results=absent)
    assert np.array(Image.open(tmp_path / "a_a_dog.png")).any()
    assert not np.array(Image.open(tmp_path / "a_sky.png")).any()


def test_write_returns_the_covered_fractions(tmp_path):
    files = MaskFiles(tmp_path, PROMPTS, "labels", overlay=False)
    covered, presence = files.write(PHOTOS[0], 0, None, result(0))
    labels = result(0).argmax()
    assert np.allclose(presence, [0.9, 0.8, 0.25])
    assert covered == [(labels == 1).mean(), (labels == 2).mean(), (labels == 3).mean()]


@pytest.mark.parametrize("form", ["png", "npy", "rle", "labels", "coco", "yolo"])
def test_failed_run_leaves_no_partial_file(tmp_path, form):
    shown = [result(0), result(1)]
    with pytest.raises(ValueError, match="zip"):
        write(tmp_path, form, results=shown)  # the third result is missing
    names = {file.name for file in tmp_path.rglob("*.*")}
    assert not [name for name in names if name.startswith(".")]
    assert not names & {"masks.json", "annotations.coco.json"}
    assert ("prompts.json" in names) == (form in ("npy", "labels"))  # belongs to the written maps


def test_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    def fail(stream, numbers):
        stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, "npy")
    assert [file.name for file in tmp_path.iterdir()] == ["prompts.json"]


@pytest.mark.parametrize("form", FORMATS)
def test_existing_files_are_rejected_without_overwrite(tmp_path, form):
    names = write(tmp_path, form)
    files = MaskFiles(tmp_path, PROMPTS, form, overlay=False)
    files.check(PHOTOS, overwrite=True)
    with pytest.raises(FileExistsError, match="--overwrite replaces it") as raised:
        files.check(PHOTOS, overwrite=False)
    assert any(name in str(raised.value) for name in names)


@pytest.mark.parametrize("form", ["npy", "labels", "yolo"])
def test_folder_with_maps_of_other_prompts_is_rejected(tmp_path, form):
    write(tmp_path, form)
    others = [PhotoFile(Path("in/d.jpg"), "d.jpg", "d")]
    MaskFiles(tmp_path, PROMPTS, form, False).check(others, overwrite=False)  # same prompts
    with pytest.raises(FileExistsError, match=r"(prompts.json|data.yaml) lists other prompts"):
        MaskFiles(tmp_path, ("a cat",), form, False).check(others, overwrite=True)


def test_nothing_is_written_without_photos(tmp_path):
    for form in FORMATS:
        with MaskFiles(tmp_path / form, PROMPTS, form, False):
            pass
    assert not list(tmp_path.iterdir())


def test_duplicate_file_names_are_rejected(tmp_path):
    photos = [PhotoFile(Path(n), n, n) for n in ("cat", "cat_big")]
    files = MaskFiles(tmp_path, ["big dog", "dog"], "png", overlay=False)
    with pytest.raises(ValueError, match=r"cat_big_dog.png would be written twice"):
        files.check(photos, overwrite=True)


def test_output_folder_that_is_a_file_is_rejected(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(NotADirectoryError, match="file is a file"):
            MaskFiles(folder, PROMPTS, "png", overlay=True).check(PHOTOS, overwrite=True)


def test_output_folder_without_write_permission_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="is not writable"):
        MaskFiles(tmp_path / "new", PROMPTS, "png", overlay=True).check(PHOTOS, overwrite=True)
    assert not (tmp_path / "new").exists()


def test_label_map_is_limited_to_255_prompts():
    MaskFiles(Path("out"), ["x"] * 255, "labels", overlay=False)
    with pytest.raises(ValueError, match="255 labels, too few for 256 prompts"):
        MaskFiles(Path("out"), ["x"] * 256, "labels", overlay=False)


def test_prompts_become_short_unique_file_names():
    prompts = ["A dog!", "a dog", "a_dog", "???", "дом", "overlay", "w" * 500, "w" * 501]
    names = name_prompts(prompts)
    assert names[:6] == ["a_dog", "a_dog_2", "a_dog_3", "prompt", "дом", "overlay_2"]
    assert len(set(names)) == len(prompts) and max(map(len, names)) < 50


def test_file_names_are_truncated_to_the_file_system_limit(tmp_path):
    prompts = ["д" * 500, "д" * 501, "\U0001f600 дом " * 90]
    long = PhotoFile(Path("in.jpg"), "in.jpg", f"sub/{'漢' * 80}")
    with MaskFiles(tmp_path, prompts, "png", overlay=True) as files:
        files.write(long, 0, np.zeros((8, 11, 3), np.uint8), result(0))
    names = [file.name for file in (tmp_path / "sub").iterdir()]
    assert len(names) == 4 and all(name.startswith("漢" * 50) for name in names)
    other = PhotoFile(Path("other.jpg"), "other.jpg", f"sub/{'漢' * 81}")
    with pytest.raises(ValueError, match="would be written twice"):
        files.check([long, other], overwrite=True)


def test_photo_subfolder_that_is_a_file_is_rejected(tmp_path):
    (tmp_path / "sub").touch()
    with pytest.raises(NotADirectoryError, match="sub is a file"):
        MaskFiles(tmp_path, PROMPTS, "png", overlay=True).check(PHOTOS, overwrite=True)


def test_overlay_tints_only_the_mask():
    photo = np.full((40, 60, 3), 100, np.uint8)
    mask = np.zeros((1, 40, 60), bool)
    mask[0, 10:20, 10:20] = True
    drawn = np.array(draw_overlay(photo, mask, ["a square"]))[:40, :60]
    assert (drawn[~mask[0]] == 100).all()
    assert (drawn[mask[0]] != 100).any(-1).all()


def test_legend_marks_missing_prompts_and_fits_the_width():
    photo, mask = np.zeros((40, 60, 3), np.uint8), np.ones((1, 40, 60), bool)
    legends = {}
    for name, shown, prompt in (
        ("found", mask, "a dog"),
        ("absent", ~mask, "a dog"),
        ("long", mask, "a dog " * 100),
        ("absent, long", ~mask, "a dog " * 100),
    ):
        legends[name] = np.array(draw_overlay(photo, shown, [prompt]))[40:]
        assert (legends[name][:, -4:] == 255).all()
    ink = {name: (strip < 255).any(-1).any(0).sum() for name, strip in legends.items()}
    assert ink["found"] < ink["absent"] < ink["long"]
    assert (legends["long"] != legends["absent, long"]).any()


def test_long_legend_lists_found_prompts_first(monkeypatch):
    written = []
    draw_text = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, **more: (
            written.append(text),
            draw_text(self, place, text, **more),
        ),
    )
    masks = np.zeros((300, 1200, 400), bool)
    masks[[7, 250]] = True
    drawn = draw_overlay(np.zeros((1200, 400, 3), np.uint8), masks, [f"p{n}" for n in range(300)])
    assert written[:3] == ["p7", "p250", "p0: not found"]
    assert len(written) == 20 and written[-1] == "and 281 more, 0 found"
    assert drawn.size == (400, 1200 + 40 * 20 + 20)
    for prompts, lines in ((20, 20), (21, 20)):
        written.clear()
        draw_overlay(np.zeros((40, 400, 3), np.uint8), masks[:prompts, :40], ["x"] * prompts)
        assert len(written) == lines


def test_first_255_colours_are_distinct():
    assert len({colour(position) for position in range(255)}) == 255


def box(top, left, bottom, right):
    mask = np.zeros((8, 11), bool)
    mask[top:bottom, left:right] = True
    return mask


def segmented(*masks):
    """Segmentation with these masks of the first prompts; the masks of the others are empty."""
    probability = np.zeros((3, 8, 11), np.float32)
    for row, mask in enumerate(masks):
        probability[row] = mask
    return Segmentation(PROMPTS, probability, np.float32([0.9, 0.8, 0.25]), 0.5, 0.0)


RING = box(0, 0, 5, 5) & ~box(1, 1, 3, 4)
TWO_PARTS = box(2, 6, 8, 11) | box(0, 9, 1, 11)
BY_HAND = [segmented(RING, TWO_PARTS), segmented(), segmented(box(7, 10, 8, 11))]


def load(file):
    with contextlib.redirect_stdout(None):
        return COCO(file)


def test_coco_dataset_equals_one_made_by_hand(tmp_path):
    assert write(tmp_path, "coco", results=BY_HAND) == ["annotations.coco.json"]
    content = json.loads((tmp_path / "annotations.coco.json").read_text())
    assert content["images"] == [
        {"id": number, "file_name": photo.name, "height": 8, "width": 11}
        for number, photo in enumerate(PHOTOS, 1)
    ]
    assert content["categories"] == [
        {"id": number, "name": prompt} for number, prompt in enumerate(PROMPTS, 1)
    ]
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "score")
    assert [tuple(entry[key] for key in keys) for entry in content["annotations"]] == [
        (1, 1, 1, [0, 0, 5, 5], 25 - 6, 0, 0.9),
        (2, 1, 2, [6, 0, 5, 8], 30 + 2, 0, 0.8),
        (7, 3, 1, [10, 7, 1, 1], 1, 0, 0.9),
    ]
    assert content["annotations"][2]["segmentation"] == [[10, 7, 10, 8, 11, 8, 11, 7]]
    assert len(content["annotations"][1]["segmentation"]) == 2


def test_coco_dataset_gives_the_same_masks_to_pycocotools(tmp_path):
    shown = [result(number) for number in range(3)]
    write(tmp_path, "coco", results=shown)
    coco = load(tmp_path / "annotations.coco.json")
    assert len(coco.anns) == 6  # the mask of the third prompt is empty
    for entry in coco.anns.values():
        expected = shown[entry["image_id"] - 1].masks[entry["category_id"] - 1]
        assert (coco.annToMask(entry) == expected).all()


def test_coco_dataset_does_not_depend_on_the_order_of_photos(tmp_path):
    texts = []
    for order in ((0, 1, 2), (2, 0, 1)):
        with MaskFiles(tmp_path, PROMPTS, "coco", overlay=False) as files:
            for number in order:
                files.write(PHOTOS[number], number, None, result(number))
        texts.append((tmp_path / "annotations.coco.json").read_text())
    assert texts[0] == texts[1]


def test_datasets_without_masks_list_the_photos(tmp_path):
    write(tmp_path / "coco", "coco", results=[segmented()] * 3)
    coco = load(tmp_path / "coco" / "annotations.coco.json")
    assert len(coco.imgs) == 3 and not coco.anns
    write(tmp_path / "yolo", "yolo", results=[segmented()] * 3)
    labels = [tmp_path / "yolo" / "labels" / f"{photo.stem}.txt" for photo in PHOTOS]
    assert [file.read_text() for file in labels] == [""] * 3


def test_union_of_a_dataset_is_one_class(tmp_path):
    write(tmp_path, "coco", results=BY_HAND, edits=Edits(union=True))
    content = json.loads((tmp_path / "annotations.coco.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "a dog, sky, nothing"}]
    assert [(e["id"], e["area"]) for e in content["annotations"]] == [(1, 19 + 32), (3, 1)]


def test_yolo_dataset_has_a_polygon_per_part(tmp_path):
    files = ["data.yaml", *(f"labels/{photo.stem}.txt" for photo in PHOTOS)]
    assert write(tmp_path, "yolo", results=BY_HAND) == files
    data = yaml.safe_load((tmp_path / "data.yaml").read_text())
    assert data == {"train": "images", "val": "images", "names": dict(enumerate(PROMPTS))}
    rows = [line.split() for line in (tmp_path / "labels" / "a.txt").read_text().splitlines()]
    assert [row[0] for row in rows] == ["0", "1", "1"]
    assert (tmp_path / "labels" / "sub" / "b.txt").read_text() == ""
    for label, expected in enumerate((RING, TWO_PARTS)):
        parts = [np.float64(row[1:]) for row in rows if row[0] == str(label)]
        flat = [(part.reshape(-1, 2) * (11, 8)).ravel().tolist() for part in parts]
        assert (
            coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, 8, 11))) == expected
        ).all()


def test_yolo_labels_of_photos_with_the_same_stem_are_rejected(tmp_path):
    photos = [PhotoFile(Path(n), n, n) for n in ("cat.jpg", "cat.png")]
    files = MaskFiles(tmp_path, PROMPTS, "yolo", overlay=False)
    with pytest.raises(ValueError, match=r"labels/cat.txt would be written twice"):
        files.check(photos, overwrite=False)


@pytest.mark.parametrize("form", ["coco", "yolo"])
@pytest.mark.parametrize("shown", [BY_HAND, [result(number) for number in range(3)]])
def test_dataset_is_read_back_without_loss(tmp_path, form, shown):
    write(tmp_path, form, results=shown)
    for photo in PHOTOS:
        file = tmp_path / "images" / photo.name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(file)
    if form == "coco":
        found = read_coco(tmp_path / "annotations.coco.json", tmp_path / "images")
    else:
        found = read_export(tmp_path, False, 255)["train"]
    assert sorted(found.photo_names()) == [photo.name for photo in PHOTOS]
    masks = np.zeros((3, 3, 8, 11), bool)
    for row, (photo, phrase) in enumerate(zip(found.photo, found.phrase, strict=True)):
        number = [photo.name for photo in PHOTOS].index(found.photos[photo])
        masks[number, PROMPTS.index(found.phrases[phrase])] = found.masks(row)
    assert np.array_equal(masks, np.stack([each.masks for each in shown]))


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_classes_of_a_dataset_must_differ(tmp_path, form):
    with pytest.raises(ValueError, match=r"prompt 'sky' is given twice"):
        MaskFiles(tmp_path, ["sky", "grass", "sky"], form, overlay=False)
    with pytest.raises(ValueError, match="feather cannot be combined with the format"):
        MaskFiles(tmp_path, PROMPTS, form, overlay=False, edits=Edits(feather=1))


@given(st.integers(0, 2**35 - 1), st.sampled_from([0.1, 0.5, 0.9]))
def test_traced_polygons_redraw_any_mask(seed, density):
    mask = np.random.default_rng(seed).random((9, 13)) < density
    flat = [polygon.ravel().tolist() for polygon in trace(mask)]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, 9, 13))) if flat else 0
    assert (drawn == mask).all()
    parts = cv2.connectedComponents(mask.astype(np.uint8))[0] - 1  # without the background
    assert len(flat) == parts


@pytest.mark.parametrize(
    ("form", "ending"), [("png", ""), ("soft", "_soft"), ("cutout", "_cutout")]
)
def test_name_pattern_replaces_the_file_names_of_masks(tmp_path, form, ending):
    files = MaskFiles(tmp_path, PROMPTS, form, overlay=True, name_pattern="m_{photo}__{prompt}")
    assert [file.relative_to(tmp_path).as_posix() for file in files.photo_files(PHOTOS[1])] == [
        *(f"sub/m_b__{name}{ending}.png" for name in ("a_dog", "sky", "nothing")),
        "sub/b_overlay.png",
    ]


def test_name_pattern_of_one_mask_needs_no_prompt(tmp_path):
    union = {"edits": Edits(union=True), "name_pattern": "{photo}"}
    files = MaskFiles(tmp_path, PROMPTS, "png", overlay=False, **union)
    assert files.photo_files(PHOTOS[0]) == [tmp_path / "a.png"]


@pytest.mark.parametrize(
    ("pattern", "form", "message"),
    [
        ("{photo}", "png", "must contain {prompt} if there are several prompts"),
        ("{prompt}", "png", "must contain {photo} once"),
        ("{photo}{photo}_{prompt}", "png", "must contain {photo} once"),
        ("{photo}_{phrase}", "png", "may contain {photo}, {prompt}, and text without braces"),
        ("{photo!r}_{prompt}", "png", "may contain"),
        ("{photo}_{prompt", "png", "may contain"),
        ("{prompt}/{photo}", "png", "may contain"),
        ("{photo}__{prompt}", "rle", "needs a format with one file per mask: png, soft, cutout"),
    ],
)
def test_invalid_name_patterns_are_rejected(tmp_path, pattern, form, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MaskFiles(tmp_path, PROMPTS, form, overlay=False, name_pattern=pattern)
