"""Mask files on disk, read back with other libraries."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from clipseg_pl.inference.editing import UNEDITED, Edits
from clipseg_pl.inference.mask_files import MaskFiles, name_files
from clipseg_pl.inference.overlay import colour, draw_overlay
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.photo_files import PhotoFile

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


@pytest.mark.parametrize("form", ["png", "npy", "rle", "labels"])
def test_failed_run_leaves_no_partial_file(tmp_path, form):
    shown = [result(0), result(1)]
    with pytest.raises(ValueError, match="zip"):
        write(tmp_path, form, results=shown)  # the third result is missing
    names = {file.name for file in tmp_path.rglob("*.*")}
    assert not [name for name in names if name.startswith(".")]
    assert "masks.json" not in names
    assert ("prompts.json" in names) == (form in ("npy", "labels"))  # belongs to the written maps


def test_failed_write_leaves_no_partial_file(tmp_path, monkeypatch):
    def fail(stream, numbers):
        stream.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, "npy")
    assert [file.name for file in tmp_path.iterdir()] == ["prompts.json"]


@pytest.mark.parametrize("form", ["png", "soft", "cutout", "npy", "rle", "labels"])
def test_existing_files_are_rejected_without_overwrite(tmp_path, form):
    names = write(tmp_path, form)
    files = MaskFiles(tmp_path, PROMPTS, form, overlay=False)
    files.check(PHOTOS, overwrite=True)
    with pytest.raises(FileExistsError, match="--overwrite replaces it") as raised:
        files.check(PHOTOS, overwrite=False)
    assert any(name in str(raised.value) for name in names)


@pytest.mark.parametrize("form", ["npy", "labels"])
def test_folder_with_maps_of_other_prompts_is_rejected(tmp_path, form):
    write(tmp_path, form)
    others = [PhotoFile(Path("in/d.jpg"), "d.jpg", "d")]
    MaskFiles(tmp_path, PROMPTS, form, False).check(others, overwrite=False)  # same prompts
    with pytest.raises(FileExistsError, match=r"prompts.json lists other prompts"):
        MaskFiles(tmp_path, ("a cat",), form, False).check(others, overwrite=True)


def test_nothing_is_written_without_photos(tmp_path):
    for form in ("npy", "labels", "rle"):
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
    names = name_files(prompts)
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
