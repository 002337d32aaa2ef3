"""Reading of photos: missing and damaged files, modes, bit depths and EXIF orientation."""

import io
import random

import cv2
import numpy as np
import PIL
import pytest
from PIL import Image

from clipseg_pl import images
from clipseg_pl.images import UnreadableImageError, image_size, load_photo, read_image
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.phrasecut import PhraseCut
from tests.datasets.own import write_turned
from tests.datasets.written import task, write_phrasecut

RAMP = np.arange(48 * 64).reshape(48, 64)
COLOURED = Image.fromarray(np.stack([RAMP % 256, RAMP // 48, RAMP // 12 % 256], 2).astype(np.uint8))


@pytest.mark.parametrize(
    ("absent", "found"),
    [
        (["images"], "image_data_split.json, refer_train.json"),
        (["image_data_split.json"], "photos in images/, refer_train.json"),
        (["refer_train.json"], "photos in images/, image_data_split.json"),
        (["images", "refer_train.json"], "image_data_split.json"),
        (["images", "image_data_split.json", "refer_train.json"], "nothing"),
    ],
)
def test_incomplete_dataset_error_lists_missing_parts(tmp_path, absent, found):
    folder = write_phrasecut(tmp_path, [task(0)])
    for part in absent:
        (folder / part).rename(tmp_path / part)
    with pytest.raises(DatasetNotFoundError) as error:
        PhraseCut(tmp_path, "train")
    message = str(error.value)
    assert f"is missing or incomplete in {folder}: found {found}; missing" in message
    missing = message.split("; missing ")[1].split(". Download it")[0].split(", ")
    assert {part.removeprefix("photos in ").rstrip("/") for part in missing} == set(absent)
    assert "https://github.com/ChenyunWu/PhraseCutDataset" in message
    assert "--data.init_args.root" in message and "\n" not in message


def test_missing_dataset_error_names_the_folder(tmp_path):
    with pytest.raises(DatasetNotFoundError, match="found nothing") as error:
        PhraseCut(tmp_path / "nowhere", "train")
    assert str(tmp_path / "nowhere" / "VGPhraseCut_v0") in str(error.value)


@pytest.mark.parametrize("content", ["empty", "truncated", "noise", "missing"])
def test_photo_damaged_after_indexing_is_an_error(tmp_path, content):
    folder = write_phrasecut(tmp_path, [task(0, 1)])
    source = PhraseCut(tmp_path, "train")
    photo = folder / "images" / "1.jpg"
    data = photo.read_bytes()
    damaged = {"empty": b"", "truncated": data[: len(data) * 2 // 3], "noise": b"noise"}
    photo.unlink()
    if content in damaged:
        photo.write_bytes(damaged[content])
    with pytest.raises(UnreadableImageError) as error:
        source.image(0)
    assert str(photo) in str(error.value)


def test_photo_resized_after_indexing_is_an_error(tmp_path):
    folder = write_phrasecut(tmp_path, [task(0, 1)])
    source = PhraseCut(tmp_path, "train")
    Image.new("RGB", (24, 32)).save(folder / "images" / "1.jpg")
    with pytest.raises(UnreadableImageError, match=r"1\.jpg: size is \(32, 24\), annotated as"):
        source.image(0)
    write_turned(folder / "images" / "1.jpg", (32, 24))
    with pytest.raises(
        UnreadableImageError, match=r"\(24, 32\); .*1\.jpg is stored as 24 x 32 pix"
    ):
        source.image(0)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_only_unreadable_image_error(tmp_path, file_format):
    rng, written, file = random.Random(0), io.BytesIO(), tmp_path / "photo"
    COLOURED.save(written, file_format)
    for turn in range(60):
        damaged = bytearray(written.getvalue())
        for _ in range(turn % 4):
            damaged[rng.randrange(min(len(damaged), 400))] = rng.randrange(256)
        file.write_bytes(damaged[: rng.randrange(len(damaged)) if turn % 2 else None])
        try:
            read_image(file)
        except UnreadableImageError as error:
            assert str(file) in str(error)
        assert image_size(file) is None or len(image_size(file)) == 2


# Pillow before 13 writes YCbCr TIFF files that it cannot read
OLD = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow < 13")
YCBCR = pytest.param("YCbCr", marks=OLD)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "RGBA", "LA", "CMYK", "P", YCBCR])
def test_every_mode_is_converted_to_rgb(tmp_path, mode):
    file = tmp_path / ("photo.tif" if mode in ("CMYK", "YCbCr") else "photo.png")
    COLOURED.convert(mode).save(file)
    read = read_image(file)
    assert read.shape == (48, 64, 3) and read.dtype == np.uint8
    if mode in ("L", "1", "LA"):
        assert (read == read[..., :1]).all() and read.std() > 30
    else:
        error = np.abs(read.astype(int) - np.asarray(COLOURED)).mean()
        assert error < {"RGB": 1e-9, "RGBA": 1e-9, "CMYK": 1e-9, "YCbCr": 1.5, "P": 25}[mode]
    assert image_size(file) == (48, 64)


@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    deep = (RAMP * 21).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / name)
    read = read_image(tmp_path / name)
    assert read.shape == (48, 64, 3) and read.dtype == np.uint8
    assert np.array_equal(read, np.repeat((deep // 256)[..., None], 3, 2))


def test_bit_depth_of_32_bit_grey_is_found_by_its_highest_value(tmp_path):
    for factor in (1, 256):  # 8- and 16-bit values stored in 32 bits
        Image.fromarray((RAMP % 256 * factor).astype(np.int32)).save(tmp_path / "wide.tif")
        assert np.array_equal(read_image(tmp_path / "wide.tif")[..., 0], RAMP % 256)


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_grey_of_fewer_bits_in_16_bit_files_keeps_its_brightness(tmp_path, bits, name, caplog):
    """Cameras and microscopes write such files; the 8 highest bits alone would be nearly black."""
    images._logged.clear()
    deep = RAMP * ((1 << bits) - 1) // RAMP.max()
    Image.fromarray(deep.astype(np.uint16)).save(tmp_path / name)
    photos = [reader(tmp_path / name) for reader in (read_image, load_photo)]
    assert all(np.array_equal(photo[..., 0], deep >> (bits - 8)) for photo in photos)
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path / name}: the highest value is {(1 << bits) - 1}; read")
    assert f"as {bits}-bit" in line


@pytest.mark.parametrize("name", ["photo.png", "lzw.tif", "raw.tif"])
@pytest.mark.parametrize(
    ("channels", "bits", "opaque"),
    [
        *((3, bits, 0) for bits in (8, 12, 14, 16)),
        *((4, bits, 65535) for bits in (8, 12, 14, 16)),
        (4, 12, 4095),
    ],
)
def test_colours_of_fewer_bits_in_16_bit_files_keep_their_brightness(
    tmp_path, name, channels, bits, opaque
):
    deep = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], 2) * ((1 << bits) - 1) // RAMP.max()
    stored = deep[..., ::-1].astype(np.uint16)  # BGR order of OpenCV
    if channels == 4:
        stored = np.dstack([stored, np.full(RAMP.shape, opaque, np.uint16)])
    compression = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if name == "raw.tif" else []
    cv2.imwrite(str(tmp_path / name), stored, compression)
    expected = deep >> (bits - 8)
    assert np.array_equal(read_image(tmp_path / name), expected)
    for picture in (
        tmp_path / name,
        Image.open(tmp_path / name),
        stored[..., [2, 1, 0, 3][:channels]],
    ):
        assert np.array_equal(load_photo(picture), expected)


@pytest.mark.parametrize(
    ("tags", "shift"),
    [({}, 2), ({281: 4095}, 4), ({281: 65535}, 8)],
    ids=["no tag", "12 bits", "16 bits"],
)
def test_bit_depth_of_dark_tiff_is_found_by_its_max_sample_value_tag(tmp_path, tags, shift):
    dark = (RAMP % 1000).astype(np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.tif", tiffinfo=tags)
    for reader in (read_image, load_photo):
        assert np.array_equal(reader(tmp_path / "dark.tif")[..., 0], dark >> shift)


def test_8_and_16_bit_photos_log_no_warning(tmp_path, caplog):
    images._logged.clear()
    for deep in (RAMP.astype(np.uint8), (RAMP * 21).astype(np.uint16), (RAMP % 256) * 256):
        Image.fromarray(deep.astype(np.int32) if deep.itemsize == 8 else deep).save(
            tmp_path / "photo.tif"
        )
        read_image(tmp_path / "photo.tif")
    assert not caplog.messages


@pytest.mark.parametrize("highest", [0.5, 1, 1.25, 255, 4095, 1e6])
def test_floats_are_scaled_by_1_or_their_highest_value(tmp_path, highest, caplog):
    images._logged.clear()
    floats = (RAMP / RAMP.max() * highest).astype(np.float32)
    Image.fromarray(floats).save(tmp_path / "photo.tif")
    read = read_image(tmp_path / "photo.tif")
    assert np.array_equal(read[..., 0], (floats * (255 / max(highest, 1))).round())
    assert read.max() == (128 if highest == 0.5 else 255)
    assert [message.split(": ")[0] for message in caplog.messages] == (
        [str(tmp_path / "photo.tif")] if highest > 1 else []
    )


@pytest.mark.parametrize(
    "grey",
    [RAMP / -3072, RAMP / np.nan, RAMP * 100, RAMP - 5],
    ids=["negative floats", "NaN", "32", "minus"],
)
def test_greys_of_unknown_range_are_an_error(tmp_path, grey):
    file = tmp_path / "odd.tif"
    Image.fromarray(grey.astype(np.float32 if grey.dtype.kind == "f" else np.int32)).save(file)
    with pytest.raises(UnreadableImageError, match=r"odd\.tif.*8 or 16 bits"):
        read_image(file)


def test_only_load_photo_applies_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # the camera was rotated by a quarter turn
    COLOURED.save(tmp_path / "photo.png", exif=exif)
    assert read_image(tmp_path / "photo.png").shape == (48, 64, 3)  # as annotated
    assert load_photo(tmp_path / "photo.png").shape == (64, 48, 3)  # as viewers show it
