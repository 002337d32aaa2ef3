"""Pictures of all formats that are read, whole and damaged, and headers that declare anything."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from clipseg_pl.images import (
    MOST_PIXELS,
    UnreadableImageError,
    image_size,
    load_photo,
    read_image,
    sides_seen,
)
from clipseg_pl.photo_formats import FORMATS
from clipseg_pl.prompts.image_prompt import ImagePrompt
from clipseg_pl.prompts.masks import load_mask
from datamodules.datasets.labelled import LabelledPhotos
from tests.fuzz.contained import inputs, try_out
from tests.fuzz.mutated import changed

PIXELS = np.arange(24 * 32 * 3, dtype=np.uint8).reshape(24, 32, 3)
MODES = {"PNG": ("L", "LA", "P", "RGB", "RGBA", "I;16", "1"), "TIFF": ("RGB", "I;16", "F", "CMYK")}


def encoded(form: str, mode: str, **options) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(PIXELS)
    if mode in ("I;16", "F"):
        image = Image.fromarray(PIXELS[..., 0].astype({"I;16": np.uint16, "F": np.float32}[mode]))
    else:
        image = image.convert(mode)
    image.save(stream, form, **options)
    return stream.getvalue()


VALID = [encoded(form, mode) for form in FORMATS for mode in MODES.get(form, ("RGB",))]
VALID += [
    encoded("PNG", "RGB", exif=Image.Exif(), icc_profile=b"x" * 200),
    encoded("GIF", "P", save_all=True, append_images=[Image.fromarray(PIXELS)]),
    encoded("WEBP", "RGBA", lossless=True),
    *(encoded("TIFF", "RGB", compression=c) for c in ("tiff_lzw", "tiff_deflate", "jpeg")),
]
SIDES = st.integers(0, 2**31) | st.sampled_from([1, 2, 9000, 65535, 89_000_000, 2**32 - 1])


def png(width: int, height: int, depth: int, colour: int, rows: int) -> bytes:
    """A PNG that declares a size, with a few rows of zeros."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width % 2**32, height % 2**32, depth, colour, 0, 0, 0)
    content = zlib.compress(bytes(min(width * 8 + 1, 10**7) * rows))
    ends = chunk(b"IDAT", content) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + ends


def bmp(width: int, height: int) -> bytes:
    size = struct.pack("<IiiHHIIiiII", 40, width % 2**31, height % 2**31, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + size + bytes(500)


def ppm(width: int, height: int) -> bytes:
    return f"P6 {width} {height} 255 ".encode() + bytes(500)


def gif(width: int, height: int) -> bytes:
    whole = bytearray(encoded("GIF", "P"))
    whole[6:10] = struct.pack("<HH", width % 2**16, height % 2**16)
    return bytes(whole)


def tiff(width: int, height: int) -> bytes:
    """A TIFF whose width and length tags are set."""
    whole = bytearray(encoded("TIFF", "RGB"))
    for tag, side in ((256, width), (257, height)):
        place = whole.find(struct.pack("<HHI", tag, 4, 1))
        if place >= 0:
            whole[place + 8 : place + 12] = struct.pack("<I", side % 2**32)
    return bytes(whole)


DECLARED = st.one_of(
    st.builds(
        png, SIDES, SIDES, st.sampled_from([1, 8, 16]), st.sampled_from([0, 2, 3, 6]),
        st.integers(0, 3),
    ),
    *(st.builds(build, SIDES, SIDES) for build in (bmp, ppm, gif, tiff)),
)  # fmt: skip
FILES = st.sampled_from(VALID).flatmap(changed) | DECLARED


@inputs
@pytest.mark.parametrize("reader", [load_photo, read_image, load_mask])
def test_readers_of_pictures(tmp_path, inputs, reader):
    file = tmp_path / "photo.jpg"

    def read(content):
        file.write_bytes(content)
        found = reader(file)
        assert found is None or 0 < found[..., :1].size <= MOST_PIXELS

    try_out(read, FILES, inputs, documented=UnreadableImageError)


@inputs
def test_sizes_from_headers(tmp_path, inputs):
    file = tmp_path / "photo.jpg"

    def read(content):
        file.write_bytes(content)
        for upright in (False, True):
            size = image_size(file, upright)
            if size is not None and min(size) > 0:
                height, width = sides_seen(size, 352, 16)
                assert 0 < height * width < 4 * 352 * 352

    try_out(read, FILES, inputs, documented=())


@inputs
def test_examples_of_prompts(tmp_path, inputs):
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.fromarray(PIXELS).save(image)
    box = st.tuples(*[st.floats() | st.integers(-40, 40)] * 4)

    def read(given):
        content, where, box = given
        (mask if where == "mask" else image).write_bytes(content)
        more = {"mask": {"mask": mask}, "box": {"box": box}, "alone": {}}[where]
        assert ImagePrompt(image, **more).engineered(96).shape == (96, 96, 3)

    where = st.sampled_from(["mask", "box", "alone"])
    try_out(read, st.tuples(FILES, where, box), inputs)


@inputs
def test_strips_as_examples(tmp_path, inputs):
    file = tmp_path / "strip.png"

    def read(sides):
        Image.new("L", sides, 9).save(file)
        assert ImagePrompt(file).engineered(96).shape == (96, 96, 3)

    length = st.integers(1, 60_000)
    try_out(read, st.tuples(length, st.integers(1, 3)) | st.tuples(st.just(1), length), inputs)


@inputs
def test_label_maps(tmp_path, inputs):
    photos = LabelledPhotos(tmp_path, tmp_path)

    def read(content):
        (tmp_path / "a.png").write_bytes(content)
        assert photos.labels("a").dtype == np.uint8

    try_out(read, FILES, inputs, documented=UnreadableImageError)
