"""CSV and JSONL tables of photos, masks and phrases."""

import os

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.prompts.masks import load_mask
from datamodules.datasets import own_masks
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.image_folder import ImageFolder
from datamodules.datasets.own_masks import read_label_map
from datamodules.datasets.table_files import read_table
from tests.datasets.own import (
    BAR,
    SIZE,
    SQUARE,
    write_csv,
    write_grey_png,
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
def test_csv_and_jsonl_give_the_same_tasks(folder, write):
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
    assert names == ["images_a__red_square", "images_a__bar_tall", "images_b__red_square"]


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_label_selects_the_pixels_with_that_stored_value(folder, mode):
    image = Image.fromarray(LABELS.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette(bytes(range(256)) * 3)
    image.save(folder / "labels.png")
    rows = [row(mask="labels.png", label=3), row(mask="labels.png", label="200.0"), row(label="")]
    source = ImageFolder(read(write_csv(folder / "table.csv", rows)))
    for task, mask in enumerate((SQUARE, BAR, SQUARE)):
        assert np.array_equal(source.mask(task), mask)


def test_label_0_is_valid_and_bright_pixels_are_selected_without_a_label(folder):
    rows = [row(mask="labels.png", label=0), row(mask="labels.png")]
    source = ImageFolder(read(write_jsonl(folder / "table.jsonl", rows)))
    assert np.array_equal(source.mask(0), ~(SQUARE | BAR))
    assert np.array_equal(source.mask(1), BAR)  # BAR is 200 (bright), SQUARE is 3 (dark)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA"])
def test_binary_masks_of_any_mode_are_read(folder, mode):
    white = Image.fromarray(SQUARE.astype(np.uint8) * 255)
    white.convert(mode).save(folder / "masks" / "square.png")
    if mode in ("RGBA", "LA"):  # transparent pixels are never marked
        everywhere = Image.new("L", SIZE[::-1], 255)
        bands = [everywhere] * (len(mode) - 1)
        Image.merge(mode, [*bands, white]).save(folder / "masks" / "bar.png")
    source = ImageFolder(read(write_csv(folder / "table.csv", ROWS)))
    assert np.array_equal(source.mask(0), SQUARE)
    assert np.array_equal(source.mask(1), SQUARE if mode in ("RGBA", "LA") else BAR)


def test_grey_palette_is_read_as_brightness_unless_a_label_is_set(folder):
    image = Image.fromarray((~SQUARE).astype(np.uint8))
    image.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
    image.save(folder / "labels.png")
    rows = [row(mask="labels.png"), row(mask="labels.png", label=0), row(mask="labels.png")]
    source = ImageFolder(read(write_csv(folder / "table.csv", rows)))
    assert all(np.array_equal(source.mask(task), SQUARE) for task in range(3))


@pytest.mark.parametrize("name", ["grey edges.png", "blurred.jpg", "faint.png"])
def test_masks_are_read_like_those_of_visual_prompts(folder, name):
    grey = np.where(SQUARE, 255, np.where(BAR, 100, 0)).astype(np.uint8)
    whites = [Image.new("L", SIZE[::-1], 255)] * 3
    image = Image.fromarray(grey)
    image = Image.merge("RGBA", [*whites, image]) if name == "faint.png" else image
    image.save(folder / name)
    source = ImageFolder(read(write_csv(folder / "table.csv", [row(mask=name)])))
    assert np.array_equal(source.mask(0), load_mask(folder / name))
    assert (source.mask(0) != SQUARE).mean() < 0.01  # JPEG artefacts at corners


def test_exif_orientation_is_applied(folder):
    stored = Image.fromarray(np.tile(np.arange(SIZE[0], dtype=np.uint8), (SIZE[1], 1)))
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(folder / "images" / "a.png", exif=exif)
    source = ImageFolder(read(write_csv(folder / "table.csv", ROWS)))
    assert source.image(0).shape == (*SIZE, 3)
    assert source.image(0)[:, 0, 0].tolist() == list(range(SIZE[0]))


def test_skipped_rows_are_counted(folder):
    rows = [
        *ROWS,
        row(phrase="  "),
        row(mask="masks/nothing.png"),
        row(mask="labels.png", label=3),
        row(mask="masks/bar.png", label=3),
    ]
    annotations = read(write_csv(folder / "table.csv", rows))
    assert annotations.skipped == {"without a phrase": 1, "with an empty mask": 2}
    assert annotations.number.tolist() == [2, 3, 4, 7]


def test_photos_with_empty_masks_do_not_show_the_phrase(folder):
    empty = {"mask": "masks/nothing.png", "phrase": "nothing"}
    rows = [row(image="images/c.png", **empty), row(image="images/a.png", **empty), *ROWS]
    annotations = read(write_csv(folder / "table.csv", rows))
    assert annotations.photo_names() == ["images/c.png", "images/a.png", "images/b.png"]
    assert annotations.photo.tolist() == [1, 1, 2] and annotations.sizes.tolist() == [[*SIZE]] * 3
    assert annotations.without_annotations().tolist() == [0] and not len(annotations.unknown)
    assert annotations.skipped == {"with an empty mask": 2}


def test_label_that_may_be_among_ignored_pixels_is_unknown(folder):
    write_mask(folder / "masks" / "map.png", np.where(BAR, 255, SQUARE * 3).astype(np.uint8))
    write_mask(folder / "masks" / "other.png", np.where(BAR, 7, 0).astype(np.uint8))
    rows = [
        {
            "image": f"images/{photo}.png",
            "mask": f"masks/{file}.png",
            "label": label,
            "phrase": word,
        }
        for photo, file in (("a", "map"), ("b", "other"))
        for label, word in ((3, "dog"), (7, "cat"))
    ]
    annotations = read_table(write_csv(folder / "table.csv", rows), folder, folder, 255)
    unknown = [annotations.phrases[phrase] for _, phrase in annotations.unknown]
    assert unknown == ["cat"] and annotations.unknown[0, 0] == 0
    assert not len(annotations.without_annotations())


def test_names_of_tasks_are_unique(folder):
    write_photo(folder / "images" / "a.jpg")
    rows = [row(), row(), row(image="images/a.jpg"), row(phrase="red/square"), row(phrase="a__b")]
    source = ImageFolder(read(write_csv(folder / "table.csv", rows)))
    assert [source.name(task) for task in range(5)] == [
        "images_a__red_square",
        "images_a__red_square_2",
        "images_a__red_square_3",
        "images_a__red_square_4",
        "images_a__a_b",
    ]


def test_byte_order_mark_and_capital_letters_in_the_header_are_accepted(folder):
    text = "Image, Mask ,PHRASE\r\nimages/a.png,masks/bar.png,dog\r\n"
    (folder / "table.csv").write_bytes(text.encode("utf-8-sig"))
    source = ImageFolder(read(folder / "table.csv"))
    assert source.phrases[0] == "dog" and np.array_equal(source.mask(0), BAR)


def test_quotes_inside_cells_are_part_of_the_phrase(folder):
    text = 'image,mask,phrase\nimages/a.png,masks/bar.png,19" wheel\n'
    text += 'images/a.png,masks/bar.png,"a ""red"" dog"\n'
    (folder / "table.csv").write_text(text)
    source = ImageFolder(read(folder / "table.csv"))
    assert [source.phrases[source.phrase(task)] for task in range(2)] == [
        '19" wheel',
        'a "red" dog',
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"image": "images/a.png", "phrase": "x"}], "the header lacks mask; found: image, ph"),
        (
            [{"image;mask;phrase": "a;b;c"}],
            "lacks image, mask, phrase; found: image;mask;phrase; save it as",
        ),
        (
            [{"image\tmask\tphrase": "a"}],
            "found: image\tmask\tphrase; save it as UTF-8 with commas",
        ),
        ([row(image="images\\a.png")], "line 2: image images\\a.png contains backslashes; use /"),
        ([ROWS[0], row(image=" ")], "line 3 has no image"),
        ([row(mask="")], "line 2 has no mask"),
        ([row(label="dog")], "line 2: label 'dog' is not an integer"),
        ([row(label="-1")], "line 2: label '-1' is not an integer"),
        ([row(label="9" * 30)], "is not an integer from 0 to 999999999"),
        ([row(phrase=" ")], "no usable rows; skipped: 1 without a phrase"),
        ([row(mask="masks/nothing.png")], "no usable rows; skipped: 1 with an empty mask"),
        (
            [row(mask="labels.png", label=3), row(mask="labels.png", label=7)],
            "label 7 (line 3) occurs in none of the 1 masks",
        ),
    ],
)
def test_invalid_rows_raise_one_line(folder, rows, message):
    file = write_csv(folder / "table.csv", rows)
    with pytest.raises(ValueError) as error:
        read(file)
    text = str(error.value)
    assert text.startswith(f"{file}: ") and message in text and "\n" not in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "lacks image, mask, phrase; found: nothing"),
        ("t.csv", b"image,mask,phrase\n", "no usable rows; skipped: none"),
        ("t.csv", b"image,mask,phrase\na,b,c,d\n", "line 2 has more cells than the header; put"),
        (
            "t.csv",
            b'image,mask,phrase\na,b,c\n\na,b,"red dog\nc,d,e\n',
            "line 4: unexpected end of data; a cell that starts with a double quote must end",
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
            "line 2 has a cell that continues on the next line",
        ),
        (
            "t.csv",
            b"image,mask,phrase\n\xff\xff,b,c\n",
            "not UTF-8 (invalid start byte); save it as",
        ),
        ("t.csv", "image,mask,phrase\n".encode("utf-16"), "not UTF-8 (invalid start byte)"),
        ("t.csv", "image,mask,phrase\n".encode("utf-16-le"), "save it as UTF-8 with commas"),
        (
            "t.csv",
            b"image,mask,phrase,Phrase\na,b,c,d\n",
            "the header has two columns named phrase",
        ),
        ("t.jsonl", b"{'image': 1}\n", "line 1 is not JSON"),
        (
            "t.jsonl",
            b'{"image": "\\u0000", "mask": "b", "phrase": "c"}\n',
            "is not a file name; save it as",
        ),
        ("t.jsonl", b"\n[1]\n", "line 2 is not a JSON object with image, mask, phrase"),
        ("t.jsonl", b'{"image": "a", "mask": "b"}\n', "line 1 lacks phrase; found: image, mask"),
        ("t.jsonl", b'{"image": "a", "mask": null, "phrase": "c"}\n', "line 1 has no mask"),
        (
            "t.jsonl",
            b'\n{"image": "a", "mask": "b", "phrase": ["c", "d"]}\n',
            'line 2: phrase must be a string, not ["c", "d"]',
        ),
        (
            "t.jsonl",
            b'{"image": "a", "mask": "b", "phrase": {}}\n',
            "line 1: phrase must be a string, not {}",
        ),
        (
            "t.jsonl",
            b'{"image": "a", "mask": "b", "phrase": 3}\n',
            "line 1: phrase must be a string, not 3",
        ),
        (
            "t.jsonl",
            b'{"image": 3, "mask": "b", "phrase": "c"}\n',
            "line 1: image must be a string, not 3",
        ),
        ("t.jsonl", b"", "no usable rows"),
    ],
)
def test_malformed_file_raises_one_line(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        read(folder / name)
    text = str(error.value)
    assert text.startswith(f"{folder / name}: ") and message in text and "\n" not in text


def test_missing_photos_and_masks_are_counted(folder):
    rows = [*ROWS, row(image="images/x.png"), row(image="images/y.png")]
    with pytest.raises(DatasetNotFoundError) as error:
        read(write_csv(folder / "table.csv", rows))
    assert "2 of its 4 photos are missing or not images" in str(error.value)
    assert str(folder / "images/x.png") in str(error.value)
    rows = [*ROWS, row(mask="masks/z.png")]
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 3 masks are missing .*masks/z.png"):
        read(write_csv(folder / "table.csv", rows))


def test_label_map_without_label_column_is_an_error(folder):
    write_mask(folder / "labels.png", SQUARE * np.uint8(1) + BAR * np.uint8(2))
    with pytest.raises(UnreadableImageError, match=r"labels\.png: .* 0 to .*`label`"):
        read(write_csv(folder / "table.csv", [row(mask="labels.png"), *ROWS]))


def test_mask_of_another_size_is_an_error(folder):
    write_mask(folder / "masks" / "bar.png", np.ones((32, 24), bool))
    with pytest.raises(
        ValueError, match=r"1 masks differ in size from their photos; first: .*bar.png is 32 x 24"
    ):
        read(write_csv(folder / "table.csv", ROWS))


def test_size_mismatch_by_exif_orientation_of_a_photo_is_explained(folder):
    write_turned(folder / "images" / "a.png")
    with pytest.raises(
        ValueError, match=r"a.png is stored as 32 x 24 pixels .* turns it to 24 x 32"
    ):
        read(write_csv(folder / "table.csv", ROWS))


def test_size_mismatch_by_exif_orientation_of_a_mask_is_explained(folder):
    write_turned(folder / "masks" / "bar.png")
    with pytest.raises(
        ValueError, match=r"bar.png is stored as 32 x 24 pixels .*turns it to 24 x 3"
    ):
        read(write_csv(folder / "table.csv", ROWS))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_values_of_grey_pngs_are_read_as_stored(tmp_path, depth):
    values = np.random.default_rng(0).integers(0, 2**depth, (5, 7))
    write_grey_png(tmp_path / "grey.png", values, depth)
    assert np.array_equal(read_label_map(tmp_path / "grey.png"), values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.write_bytes(b"noise"), "cannot be read as an image"),
        (lambda f: os.truncate(f, 60), "cannot be read as an image"),
        (lambda f: Image.open(f).convert("RGB").save(f), "label maps must have one channel"),
        (lambda f: Image.open(f).save(f, "JPEG"), "label maps cannot be JPEGs"),
    ],
)
def test_invalid_label_map_is_an_error(folder, change, message):
    change(folder / "labels.png")
    file = write_csv(folder / "table.csv", [row(mask="labels.png", label=3)])
    with pytest.raises(UnreadableImageError, match=message) as error:
        read(file)
    assert str(folder / "labels.png") in str(error.value) and "\n" not in str(error.value)


def test_check_results_are_cached_until_a_file_changes(folder, monkeypatch):
    file = write_csv(folder / "table.csv", ROWS)
    first = read(file)
    with monkeypatch.context() as patch:
        patch.setattr(own_masks, "_check_masks", None)
        again = read(file)
    assert np.array_equal(first.sizes, again.sizes) and np.array_equal(first.phrase, again.phrase)
    write_mask(folder / "masks" / "bar.png", np.zeros(SIZE, bool))
    assert read(file).skipped == {"with an empty mask": 2}
    (folder / "images" / "b.png").unlink()
    with pytest.raises(DatasetNotFoundError, match=r"1 of its 2 photos"):
        read(file)


def test_damaged_cache_file_is_an_error(folder, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(folder / "cache"))
    file = write_csv(folder / "table.csv", ROWS)
    read(file)
    (cached,) = (folder / "cache" / "own").glob("*.npz")
    cached.write_bytes(b"PK\x03\x04junk")
    with pytest.raises(ValueError, match=rf"{cached}: damaged cache file .* delete it"):
        read(file)


def test_files_resized_after_the_check_are_an_error(folder):
    source = ImageFolder(read(write_csv(folder / "table.csv", ROWS)))
    write_photo(folder / "images" / "a.png", size=(10, 10))
    write_mask(folder / "masks" / "bar.png", np.ones((10, 10), bool))
    for part in (source.image, source.mask):
        with pytest.raises(UnreadableImageError, match="changed since it was checked"):
            part(1)


def test_colour_palette_is_read_by_index(folder):
    """Old CVAT exports have a green background and black objects."""
    image = Image.fromarray(SQUARE.astype(np.uint8))
    image.putpalette([48, 112, 32, 0, 0, 0])
    image.save(folder / "cvat.png")
    source = ImageFolder(read(write_csv(folder / "table.csv", [row(mask="cvat.png")])))
    assert np.array_equal(source.mask(0), SQUARE)


def test_palette_of_several_colours_needs_a_label(folder):
    image = Image.fromarray(np.where(SQUARE, 3, np.where(BAR, 2, 0)).astype(np.uint8))
    image.putpalette([0, 0, 0, 9, 9, 9, 0, 128, 0, 128, 0, 0])
    image.save(folder / "classes.png")
    with pytest.raises(UnreadableImageError, match=r"classes.png: .*2, 3\. .*column `label`"):
        read(write_csv(folder / "table.csv", [row(mask="classes.png")]))
    source = ImageFolder(read(write_csv(folder / "other.csv", [row(mask="classes.png", label=3)])))
    assert np.array_equal(source.mask(0), SQUARE)


def test_unsupported_photo_format_is_explained(folder):
    (folder / "images" / "a.png").rename(folder / "images" / "a.nef")
    rows = [row(image="images/a.nef")]
    with pytest.raises(DatasetNotFoundError, match=r"first: .*a\.nef \(camera raw .* converted"):
        read(write_csv(folder / "table.csv", rows))


# ---- ignored pixels

IGNORING = np.where(SQUARE, 3, np.where(BAR, 255, 0)).astype(np.uint8)


def test_ignored_label_of_a_label_map(folder):
    write_mask(folder / "ignoring.png", IGNORING)
    rows = [
        row(mask="ignoring.png", label=3),
        row(mask="labels.png", label=3),  # has no pixel to ignore
        row(mask="ignoring.png"),  # all bright pixels, so 255 is not a label
    ]
    file = write_csv(folder / "table.csv", rows)
    annotations = read_table(file, folder, folder, ignore_label=255)
    assert np.array_equal(annotations.masks(0), SQUARE)
    assert np.array_equal(annotations.valid(0), ~BAR)
    assert annotations.valid(1) is None and annotations.valid(2) is None
    assert read_table(file, folder, folder, ignore_label=None).valid is None
    assert read_table(file, folder, folder, ignore_label=254).valid is None


def test_ignored_label_that_is_the_label_of_a_row_is_not_ignored(folder):
    write_mask(folder / "ignoring.png", IGNORING)
    rows = [row(mask="ignoring.png", label=3), row(mask="ignoring.png", label=255)]
    file = write_csv(folder / "table.csv", rows)
    annotations = read_table(file, folder, folder, ignore_label=255)
    assert annotations.valid is None and np.array_equal(annotations.masks(1), BAR)
