"""Tables of phrases beside photos and masks."""

import os

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.prompts.masks import load_mask
from datamodules.datasets import own_masks
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.image_folder import ImageFolder
from datamodules.datasets.table_files import read_table
from tests.datasets.own import (
    BAR,
    SIZE,
    SQUARE,
    write_csv,
    write_jsonl,
    write_mask,
    write_photo,
    write_turned,
)

ROWS = (
    {"image": "images/a.png", "mask": "masks/square.png", "phrase": "Red  Square"},
    {"image": "images/a.png", "mask": "masks/bar.png", "phrase": "bar, tall"},
    {"image": "images/b.png", "mask": "masks/bar.png", "phrase": "red square"},
)
LABELS = np.where(SQUARE, 3, np.where(BAR, 200, 0)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate("abc"):
        write_photo(tmp_path / "images" / f"{name}.png", number)
    write_mask(tmp_path / "masks" / "square.png", SQUARE)
    write_mask(tmp_path / "masks" / "bar.png", BAR)
    write_mask(tmp_path / "masks" / "nothing.png", np.zeros(SIZE, bool))
    write_mask(tmp_path / "labels.png", LABELS)
    return tmp_path


def read(file):
    return read_table(file, file.parent, file.parent)


def row(**changes):
    return {**ROWS[0], **changes}


@pytest.mark.parametrize("write", [write_csv, write_jsonl])
def test_both_forms_give_the_same_tasks(folder, write):
    suffix = "csv" if write is write_csv else "jsonl"
    source = ImageFolder(read(write(folder / f"table.{suffix}", ROWS)))
    phrases = [source.phrases[source.phrase(task)] for task in range(len(source))]
    assert phrases == ["red square", "bar, tall", "red square"]
    for task, (grey, mask) in enumerate(((0, SQUARE), (0, BAR), (1, BAR))):
        assert (source.image(task) == grey).all() and source.image(task).shape == (*SIZE, 3)
        assert np.array_equal(source.mask(task), mask)
    assert [source.tasks_of_phrase(k).tolist() for k in range(2)] == [[0, 2], [1]]
    assert [source.tasks_of_image(task).tolist() for task in range(3)] == [[0, 1], [0, 1], [2]]
    assert [source.possible_phrases(task).tolist() for task in range(3)] == [[0, 1], [0, 1], [0]]
    names = [source.name(task) for task in range(3)]
    lines = (2, 3, 4) if suffix == "csv" else (1, 2, 3)
    assert names == [f"images_{p}__{n}" for p, n in zip("aab", lines, strict=True)]


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_a_label_is_a_value_in_the_mask(folder, mode):
    image = Image.fromarray(LABELS.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    image.save(folder / "labels.png")
    rows = [row(mask="labels.png", label=3), row(mask="labels.png", label="200.0"), row(label="")]
    source = ImageFolder(read(write_csv(folder / "table.csv", rows)))
    for task, mask in enumerate((SQUARE, BAR, SQUARE)):
        assert np.array_equal(source.mask(task), mask)


def test_0_is_a_label_too_and_without_a_label_what_is_bright_counts(folder):
    rows = [row(mask="labels.png", label=0), row(mask="labels.png")]
    source = ImageFolder(read(write_jsonl(folder / "table.jsonl", rows)))
    assert np.array_equal(source.mask(0), ~(SQUARE | BAR))
    assert np.array_equal(source.mask(1), BAR)  # 200; the square is 3


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA"])
def test_binary_masks_may_be_of_any_mode(folder, mode):
    white = Image.fromarray(SQUARE.astype(np.uint8) * 255)
    white.convert(mode).save(folder / "masks" / "square.png")
    if mode in ("RGBA", "LA"):  # what is transparent is not marked, whatever its colour
        everywhere = Image.new("L", SIZE[::-1], 255)
        bands = [everywhere] * (len(mode) - 1)
        Image.merge(mode, [*bands, white]).save(folder / "masks" / "bar.png")
    source = ImageFolder(read(write_csv(folder / "table.csv", ROWS)))
    assert np.array_equal(source.mask(0), SQUARE)
    assert np.array_equal(source.mask(1), SQUARE if mode in ("RGBA", "LA") else BAR)


def test_a_palette_counts_by_its_colours_unless_a_label_is_given(folder):
    image = Image.fromarray((~SQUARE).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
    image.save(folder / "labels.png")
    rows = [row(mask="labels.png"), row(mask="labels.png", label=0), row(mask="labels.png")]
    source = ImageFolder(read(write_csv(folder / "table.csv", rows)))
    assert all(np.array_equal(source.mask(task), SQUARE) for task in range(3))


@pytest.mark.parametrize("name", ["grey edges.png", "blurred.jpg", "faint.png"])
def test_a_mask_means_what_it_means_as_an_example(folder, name):
    grey = np.where(SQUARE, 255, np.where(BAR, 100, 0)).astype(np.uint8)
    whites = [Image.new("L", SIZE[::-1], 255)] * 3
    image = Image.fromarray(grey)
    image = Image.merge("RGBA", [*whites, image]) if name == "faint.png" else image
    image.save(folder / name)
    source = ImageFolder(read(write_csv(folder / "table.csv", [row(mask=name)])))
    assert np.array_equal(source.mask(0), load_mask(folder / name))
    assert (source.mask(0) != SQUARE).mean() < 0.01  # JPEG's corners


def test_photos_are_turned_as_viewers_show_them(folder):
    stored = Image.fromarray(np.tile(np.arange(SIZE[0], dtype=np.uint8), (SIZE[1], 1)))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(folder / "images" / "a.png", exif=exif)
    source = ImageFolder(read(write_csv(folder / "table.csv", ROWS)))
    assert source.image(0).shape == (*SIZE, 3)
    assert source.image(0)[:, 0, 0].tolist() == list(range(SIZE[0]))


def test_what_cannot_serve_is_counted(folder):
    rows = [
        *ROWS,
        row(phrase="  "),
        row(mask="masks/nothing.png"),
        row(mask="labels.png", label=3),
        row(mask="masks/bar.png", label=3),
    ]
    annotations = read(write_csv(folder / "table.csv", rows))
    assert annotations.skipped == {"without a phrase": 1, "whose mask is empty": 2}
    assert ImageFolder(annotations).name(3) == "images_a__7" and len(annotations.photo) == 4


def test_excel_writes_a_mark_and_any_case_first(folder):
    text = "Image, Mask ,PHRASE\r\nimages/a.png,masks/bar.png,dog\r\n"
    (folder / "table.csv").write_bytes(text.encode("utf-8-sig"))
    source = ImageFolder(read(folder / "table.csv"))
    assert source.phrases[0] == "dog" and np.array_equal(source.mask(0), BAR)


def test_quotes_within_cells_are_letters(folder):
    text = 'image,mask,phrase\nimages/a.png,masks/bar.png,19" wheel\n'
    text += 'images/a.png,masks/bar.png,"a ""red"" dog"\n'
    (folder / "table.csv").write_text(text)
    source = ImageFolder(read(folder / "table.csv"))
    assert [source.phrases[source.phrase(task)] for task in range(2)] == [
        '19" wheel',
        'a "red" dog',
    ]


@pytest.mark.parametrize(
    ("rows", "answer"),
    [
        ([{"image": "images/a.png", "phrase": "x"}], "its first line lacks mask; it has image, ph"),
        (
            [{"image;mask;phrase": "a;b;c"}],
            "lacks image, mask, phrase; it has image;mask;phrase; save it as",
        ),
        (
            [{"image\tmask\tphrase": "a"}],
            "it has image\tmask\tphrase; save it as UTF-8 with commas",
        ),
        ([row(image="images\\a.png")], "line 2: image images\\a.png has backslashes; write paths"),
        ([ROWS[0], row(image=" ")], "line 3 has no image"),
        ([row(mask="")], "line 2 has no mask"),
        ([row(label="dog")], "line 2: label 'dog' is not a whole number"),
        ([row(label="-1")], "line 2: label '-1' is not a whole number"),
        ([row(label="9" * 30)], "is not a whole number from 0 on"),
        ([row(phrase=" ")], "no row that can be used; skipped 1 without a phrase"),
        ([row(mask="masks/nothing.png")], "no row that can be used; skipped 1 whose mask is empty"),
        (
            [row(mask="labels.png", label=3), row(mask="labels.png", label=7)],
            "label 7 (line 3) is in none of the 1 masks",
        ),
    ],
)
def test_bad_tables_are_refused_in_one_line(folder, rows, answer):
    file = write_csv(folder / "table.csv", rows)
    with pytest.raises(ValueError) as refused:
        read(file)
    said = str(refused.value)
    assert said.startswith(f"{file}: ") and answer in said and "\n" not in said


@pytest.mark.parametrize(
    ("name", "content", "answer"),
    [
        ("t.csv", b"", "lacks image, mask, phrase; it has nothing"),
        ("t.csv", b"image,mask,phrase\n", "no row that can be used; skipped none"),
        ("t.csv", b"image,mask,phrase\na,b,c,d\n", "line 2 has more cells than columns; a phrase"),
        (
            "t.csv",
            b'image,mask,phrase\na,b,c\n\na,b,"red dog\nc,d,e\n',
            "line 4: unexpected end of data; a cell that begins with a double quote must end",
        ),
        ("t.csv", b'image,mask,phrase\na,b,"red" dog\n', "line 2: ',' expected after '\"'; a cell"),
        (
            "t.csv",
            b'image,mask,phrase\na,b,"red dog\nc,d,"e\nf,g,h\n',
            "line 2: ',' expected after",
        ),
        (
            "t.csv",
            b'image,mask,phrase\na,b,"red dog\r\nc,d,cat"\n',
            "line 2 has a cell that goes on in the next line",
        ),
        (
            "t.csv",
            b"image,mask,phrase\n\xff\xff,b,c\n",
            "is not UTF-8 (invalid start byte); save it as",
        ),
        ("t.csv", "image,mask,phrase\n".encode("utf-16"), "is not UTF-8 (invalid start byte)"),
        ("t.csv", "image,mask,phrase\n".encode("utf-16-le"), "save it as UTF-8 with commas"),
        ("t.csv", b"image,mask,phrase,Phrase\na,b,c,d\n", "its first line has phrase twice"),
        ("t.jsonl", b"{'image': 1}\n", "line 1 is not JSON"),
        (
            "t.jsonl",
            b'{"image": "\\u0000", "mask": "b", "phrase": "c"}\n',
            "is no name of a file; save it as",
        ),
        ("t.jsonl", b"\n[1]\n", "line 2 is not a JSON object with image, mask, phrase"),
        ("t.jsonl", b'{"image": "a", "mask": "b"}\n', "line 1 lacks phrase; it has image, mask"),
        ("t.jsonl", b'{"image": "a", "mask": null, "phrase": "c"}\n', "line 1 has no mask"),
        (
            "t.jsonl",
            b'\n{"image": "a", "mask": "b", "phrase": ["c", "d"]}\n',
            'line 2: phrase is ["c", "d"], where text belongs',
        ),
        ("t.jsonl", b'{"image": "a", "mask": "b", "phrase": {}}\n', "line 1: phrase is {}"),
        ("t.jsonl", b'{"image": "a", "mask": "b", "phrase": 3}\n', "line 1: phrase is 3"),
        ("t.jsonl", b'{"image": 3, "mask": "b", "phrase": "c"}\n', "line 1: image is 3"),
        ("t.jsonl", b"", "no row that can be used"),
    ],
)
def test_what_is_no_table_is_refused_in_one_line(folder, name, content, answer):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError) as refused:
        read(folder / name)
    said = str(refused.value)
    assert said.startswith(f"{folder / name}: ") and answer in said and "\n" not in said


def test_missing_photos_and_masks_are_named_and_counted(folder):
    rows = [*ROWS, row(image="images/x.png"), row(image="images/y.png")]
    with pytest.raises(DatasetNotFoundError) as refused:
        read(write_csv(folder / "table.csv", rows))
    assert "2 of its 4 photos are missing or no images" in str(refused.value)
    assert str(folder / "images/x.png") in str(refused.value)
    rows = [*ROWS, row(mask="masks/z.png")]
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 3 masks are missing .*masks/z.png"):
        read(write_csv(folder / "table.csv", rows))


def test_maps_of_low_labels_are_not_skipped_as_empty(folder):
    write_mask(folder / "labels.png", SQUARE * np.uint8(1) + BAR * np.uint8(2))
    with pytest.raises(UnreadableImageError, match=r"labels\.png: .* 0 to .*`label`"):
        read(write_csv(folder / "table.csv", [row(mask="labels.png"), *ROWS]))


def test_a_mask_of_another_size_is_refused(folder):
    write_mask(folder / "masks" / "bar.png", np.ones((32, 24), bool))
    with pytest.raises(ValueError, match=r"2 masks are not of the size of their photos, line 3 "):
        read(write_csv(folder / "table.csv", ROWS))


def test_a_photo_that_exif_turns_is_said_to_be_turned(folder):
    write_turned(folder / "images" / "a.png")
    with pytest.raises(
        ValueError, match=r"a.png is stored as 32 x 24 pixels .* turns it to 24 x 32"
    ):
        read(write_csv(folder / "table.csv", ROWS))


def test_a_mask_that_exif_turns_is_said_to_be_turned(folder):
    write_turned(folder / "masks" / "bar.png")
    with pytest.raises(
        ValueError, match=r"bar.png is stored as 32 x 24 pixels .*turns it to 24 x 3"
    ):
        read(write_csv(folder / "table.csv", ROWS))


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda f: f.write_bytes(b"noise"), "cannot be read as an image"),
        (lambda f: os.truncate(f, 60), "cannot be read as an image"),
        (lambda f: Image.open(f).convert("RGB").save(f), "has colours, where a map of labels"),
        (lambda f: Image.open(f).save(f, "JPEG"), "is a JPEG, which blurs labels"),
    ],
)
def test_what_is_no_mask_is_refused_by_name(folder, change, answer):
    change(folder / "labels.png")
    file = write_csv(folder / "table.csv", [row(mask="labels.png", label=3)])
    with pytest.raises(UnreadableImageError, match=answer) as refused:
        read(file)
    assert str(folder / "labels.png") in str(refused.value) and "\n" not in str(refused.value)


def test_masks_are_looked_at_again_only_when_a_file_changes(folder, monkeypatch):
    file = write_csv(folder / "table.csv", ROWS)
    first = read(file)
    with monkeypatch.context() as patch:
        patch.setattr(own_masks, "_read_masks", None)
        again = read(file)
    assert np.array_equal(first.sizes, again.sizes) and np.array_equal(first.phrase, again.phrase)
    write_mask(folder / "masks" / "bar.png", np.zeros(SIZE, bool))
    assert read(file).skipped == {"whose mask is empty": 2}
    (folder / "images" / "b.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 2 photos"):
        read(file)


def test_a_damaged_record_of_checks_is_named(folder, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(folder / "cache"))
    file = write_csv(folder / "table.csv", ROWS)
    read(file)
    (record,) = (folder / "cache" / "own").glob("*.npz")
    record.write_bytes(b"PK\x03\x04junk")
    with pytest.raises(ValueError, match=rf"{record}: damaged .* delete it"):
        read(file)


def test_files_that_change_after_the_check_are_refused(folder):
    source = ImageFolder(read(write_csv(folder / "table.csv", ROWS)))
    write_photo(folder / "images" / "a.png", size=(10, 10))
    write_mask(folder / "masks" / "bar.png", np.ones((10, 10), bool))
    for part in (source.image, source.mask):
        with pytest.raises(UnreadableImageError, match="changed its size since it was checked"):
            part(1)


def test_a_palette_of_colours_counts_by_its_indices(folder):
    """CVAT's, for a while: the background is green, what is marked is black."""
    image = Image.fromarray(SQUARE.astype(np.uint8))
    image.putpalette([48, 112, 32, 0, 0, 0])
    image.save(folder / "cvat.png")
    source = ImageFolder(read(write_csv(folder / "table.csv", [row(mask="cvat.png")])))
    assert np.array_equal(source.mask(0), SQUARE)


def test_a_map_of_several_colours_needs_a_label(folder):
    image = Image.fromarray(np.where(SQUARE, 3, np.where(BAR, 2, 0)).astype(np.uint8))
    image.putpalette([0, 0, 0, 9, 9, 9, 0, 128, 0, 128, 0, 0])
    image.save(folder / "classes.png")
    with pytest.raises(UnreadableImageError, match=r"classes.png: .*2, 3, .* as `label`"):
        read(write_csv(folder / "table.csv", [row(mask="classes.png")]))
    source = ImageFolder(read(write_csv(folder / "other.csv", [row(mask="classes.png", label=3)])))
    assert np.array_equal(source.mask(0), SQUARE)


def test_photos_of_a_format_that_is_not_read_say_what_they_need(folder):
    (folder / "images" / "a.png").rename(folder / "images" / "a.nef")
    rows = [row(image="images/a.nef")]
    with pytest.raises(DatasetNotFoundError, match=r"a\.nef the first \(raw data .* converted"):
        read(write_csv(folder / "table.csv", rows))
