"""Tables of phrases, and lists of photos: text and pickles."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import strategies as st

from datamodules.datasets.coco_20i import read_fold
from datamodules.datasets.labelled import read_voc_list
from datamodules.datasets.pascal_5i import read_hsnet_list, read_pfenet_list
from datamodules.datasets.phrase_table import read_table
from tests.datasets.own import BAR, SIZE, SQUARE, write_csv, write_jsonl, write_mask, write_photo
from tests.datasets.test_coco_20i import write_list
from tests.fuzz.contained import inputs, try_out
from tests.fuzz.mutated import ODD, changed, edited

ROWS = [
    {"image": "1.png", "mask": "square.png", "phrase": "a dog", "label": ""},
    {"image": "1.png", "mask": "labels.png", "phrase": "grass, sky", "label": 2},
    {"image": "2.png", "mask": "labels.png", "phrase": "café", "label": "1.0"},
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "cache"))
    write_photo(tmp_path / "1.png")
    write_photo(tmp_path / "2.png", 9)
    write_mask(tmp_path / "square.png", SQUARE)
    write_mask(tmp_path / "labels.png", (SQUARE * 1 + BAR * 2).astype(np.uint8))
    return tmp_path


@inputs
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_tables_of_phrases(folder, inputs, kind):
    file = folder / f"table.{kind}"
    valid = (write_csv if kind == "csv" else write_jsonl)(file, ROWS).read_bytes()
    lines = edited(ROWS).map(
        lambda rows: (
            "".join(json.dumps(row) + "\n" for row in rows).encode()
            if kind == "jsonl"
            else b"image,mask,phrase,label\n" + "\n".join(map(str, rows)).encode(errors="replace")
        )
    )

    def read(content):
        file.write_bytes(content)
        found = read_table(file, folder, folder)
        assert all(found.masks(row).shape == SIZE for row in range(len(found.photo)))

    try_out(read, changed(valid) | lines, inputs)


# numbers of opcodes that name, call and remember things, and sizes that are not there
OPCODES = st.sampled_from(
    [
        *(b"\x80\x04", b"cos\nsystem\n", b"\x93", b"R", b"b", b"\x81", b"\x92", b"i__m\nx\n"),
        *(b"r\xff\xff\xff\x7f", b"j\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f"),
        *(b"\x8e" + b"\xff" * 7 + b"\x7f", b"\x96" + b"\xff" * 7 + b"\x0f", b"\x95" + b"\xff" * 8),
        *(b"(", b"t", b"]", b"}", b"0", b"1", b"2", b"Q", b"P0\n", b"\x82\x01", b"K\x01"),
        *(b"X\x04\x00\x00\x00a.b/", b"a", b"e", b"u", b"s"),
    ]
)


@inputs
def test_pickled_lists_of_coco_20i(tmp_path, inputs):
    held = {c: [f"val2014/COCO_{c}.jpg"] if c % 4 == 0 else [] for c in range(80)}
    pickles = st.one_of(
        *(changed(pickle.dumps(held, protocol)) for protocol in (0, 2, 4)),
        st.lists(OPCODES, max_size=12).map(lambda parts: b"".join([*parts, b"."])),
        edited(held).map(pickle.dumps),
        ODD.map(pickle.dumps),
    )

    def read(content):
        write_list(tmp_path, content)
        for names in read_fold(tmp_path, "val", 0).values():
            assert all(isinstance(name, str) and ".." not in name.split("/") for name in names)

    try_out(read, pickles, inputs, documented=ValueError)


LISTS = {
    "VOC2012/ImageSets/Segmentation/val.txt": (lambda root: read_voc_list(root, "val"), "2007_1\n"),
    "lists/hsnet/pascal/val/fold1.txt": (lambda root: read_hsnet_list(root, 1), "2007_1__06\n"),
    "lists/pfenet/val.txt": (read_pfenet_list, "/J/2007_1.jpg /S/2007_1.png\n"),
}


@inputs
@pytest.mark.parametrize("name", LISTS)
def test_lists_of_voc(tmp_path, inputs, name):
    reader, line = LISTS[name]
    (tmp_path / name).parent.mkdir(parents=True)
    paths = st.sampled_from(["../../up", "/etc/passwd", "..", "~/a", "a\0b", "x" * 500, "a b c"])

    def read(content):
        (tmp_path / name).write_bytes(content)
        for found in reader(tmp_path):
            photo = tmp_path / "photos" / f"{found[0] if isinstance(found, tuple) else found}.jpg"
            assert ".." not in photo.parts and (tmp_path / "photos") in photo.parents

    valid = changed(3 * line.encode())
    replaced = paths.map(lambda path: line.replace("2007_1", path).encode())
    try_out(read, valid | replaced, inputs, documented=ValueError)
