"""Loading, converting and resizing of photos."""

import os
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.images import (
    UnreadableImageError,
    image_size,
    load_photo,
    load_picture,
    read_image,
    resize,
    size_for_model,
)

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
GREY = COLOURS[..., 0]
ALPHA = np.where(GREY > 100, 255, 0).astype(np.uint8)


def test_all_input_types_give_the_same_image(tmp_path):
    Image.fromarray(COLOURS).save(tmp_path / "photo.png")
    kinds = [
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        Image.fromarray(COLOURS),
        COLOURS,
        COLOURS.astype(np.int64),
        COLOURS.astype(np.uint16) << 8,
        COLOURS / 255,
        torch.from_numpy(COLOURS).permute(2, 0, 1),
        torch.from_numpy(COLOURS).permute(2, 0, 1) / 255,
    ]
    for kind in kinds:
        image, alpha = load_picture(kind)
        assert np.array_equal(image, COLOURS) and image.dtype == np.uint8 and alpha is None


@pytest.mark.parametrize(
    "grey", [GREY, GREY[..., None], Image.fromarray(GREY), torch.from_numpy(GREY.copy())]
)
def test_grey_images_become_rgb(grey):
    assert np.array_equal(load_picture(grey)[0], np.stack([GREY] * 3, 2))


def test_booleans_become_black_and_white():
    assert set(np.unique(load_picture(GREY > 100)[0])) == {0, 255}


def test_16_bit_greys_keep_their_highest_8_bits(tmp_path):
    deep = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
    Image.fromarray(deep).save(tmp_path / "deep.png")
    for kind in (tmp_path / "deep.png", deep):
        assert np.array_equal(load_picture(kind)[0][..., 0], deep >> 8)


@pytest.mark.parametrize("kind", ["file", "pil", "array", "tensor", "palette", "grey with alpha"])
def test_alpha_is_returned_separately_or_drawn_on_white(tmp_path, kind):
    both = np.dstack([COLOURS, ALPHA])
    if kind == "palette":  # one entry is transparent
        indices = Image.fromarray((ALPHA == 0).astype(np.uint8), mode="P")
        indices.putpalette([10, 20, 30, 40, 50, 60])
        indices.save(tmp_path / "photo.png", transparency=1)
        picture, colour = tmp_path / "photo.png", (10, 20, 30)
    elif kind == "grey with alpha":
        picture = Image.merge("LA", [Image.new("L", (9, 6), 70), Image.fromarray(ALPHA)])
        colour = (70, 70, 70)
    else:
        both[..., :3] = colour = (1, 2, 3)
        Image.fromarray(both).save(tmp_path / "photo.png")
        picture = {
            "file": tmp_path / "photo.png",
            "pil": Image.fromarray(both),
            "array": both,
            "tensor": torch.from_numpy(both).permute(2, 0, 1),
        }[kind]
    image, alpha = load_picture(picture)
    assert np.array_equal(alpha, ALPHA)
    assert (image[ALPHA > 0] == colour).all()
    shown = load_photo(picture)
    assert (shown[ALPHA == 0] == 255).all() and (shown[ALPHA > 0] == colour).all()


def test_exif_orientation_is_applied_except_in_datasets(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(COLOURS).save(tmp_path / "turned.png", exif=exif)
    upright = np.rot90(COLOURS, -1)
    assert np.array_equal(load_photo(tmp_path / "turned.png"), upright)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(load_photo(opened), upright)
    assert np.array_equal(read_image(tmp_path / "turned.png"), COLOURS)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4, 3), np.nan), r"values in \[0, 1\], not in \[nan"),
        (np.full((4, 4, 3), 1.5), r"values in \[0, 1\], not in \[1.5"),
        (np.full((4, 4, 3), -1), "8 or 16 bits"),
        (np.full((4, 4), 1 << 16), "8 or 16 bits"),
        (np.zeros((3, 4, 5), np.uint8), r"\(3, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (torch.zeros(2, 3, 4, 5), r"\(2, 3, 4, 5\)"),
        (torch.full((3, 4, 4), float("nan"), dtype=torch.bfloat16), "nan"),
        (np.zeros((4, 4), np.complex64), "8 or 16 bits"),
    ],
)
def test_arrays_that_are_not_images_raise_in_one_line(pixels, message):
    with pytest.raises(ValueError, match=message) as error:
        load_picture(pixels)
    assert "\n" not in str(error.value)


def test_alpha_has_at_least_the_bit_depth_of_the_colours():
    layer = np.full((6, 9, 4), 65535, np.uint16)
    layer[..., 3] = 20_000
    assert (load_picture(layer)[1] == 20_000 >> 8).all()
    layer[..., :3], layer[..., 3] = 4095, 2000
    colours, alpha = load_picture(layer)
    assert (colours == 255).all() and (alpha == 2000 >> 4).all()


def test_unloaded_image_is_read_from_its_file_and_not_changed(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((6, 9, 3), 3000, np.uint16))
    image = Image.open(tmp_path / "deep.png")
    assert (load_photo(image) == 3000 >> 4).all()
    assert (np.asarray(image) == 3000 >> 8).all()
    assert (load_photo(image) == 3000 >> 8).all()  # loaded: its file may no longer exist
    (tmp_path / "deep.png").unlink()
    assert load_photo(image).shape == (6, 9, 3)


def test_unloaded_image_is_read_without_its_file(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.full((6, 9, 3), 3000, np.uint16))
    by_name = Image.open(tmp_path / "deep.png")
    by_bytes = Image.open(os.fsencode(tmp_path / "deep.png"))
    assert (load_photo(by_bytes) == 3000 >> 4).all()
    (tmp_path / "deep.png").unlink()
    assert (load_photo(by_name) == 3000 >> 8).all()


def test_16_bit_colours_with_a_transparent_colour_keep_their_order(tmp_path):
    """OpenCV reads one channel more than PIL if a PNG has a transparent colour."""
    deep = np.random.default_rng(1).integers(0, 1 << 12, (6, 9, 3), np.uint16)
    content = cv2.imencode(".png", deep[..., ::-1])[1].tobytes()
    chunk = b"tRNS" + np.array([1, 2, 3], ">u2").tobytes()
    chunk = len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    start = content.index(b"IDAT") - 4
    (tmp_path / "deep.png").write_bytes(content[:start] + chunk + content[start:])
    assert np.array_equal(read_image(tmp_path / "deep.png"), deep >> 4)


def test_16_bit_greys_with_transparency_are_not_clipped(tmp_path):
    deep = np.arange(54, dtype=np.uint16).reshape(6, 9) * 1200
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=0)
    assert np.array_equal(load_photo(tmp_path / "deep.png")[..., 0], deep >> 8)


def test_image_size_equals_the_size_of_the_loaded_photo(tmp_path):
    for orientation in (1, 3, 6, 8, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        file = tmp_path / f"{orientation}.png"
        Image.fromarray(COLOURS).save(file, exif=exif)
        assert image_size(file, upright=True) == load_photo(file).shape[:2]
        assert image_size(file) == (6, 9)


def test_other_types_raise():
    with pytest.raises(TypeError, match="list"):
        load_picture([1, 2])


def test_decompression_bomb_raises_before_loading(tmp_path, monkeypatch):
    Image.fromarray(COLOURS).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", COLOURS[..., 0].size // 2 - 1)
    with pytest.raises(UnreadableImageError, match=r"large.png: .*exceeds limit of"):
        load_photo(tmp_path / "large.png")


@pytest.mark.parametrize(
    ("shape", "sides"),
    [
        ((352, 352), (352, 352)),
        ((480, 640), (304, 400)),
        ((1, 1), (352, 352)),
        ((1, 400), (16, 7040)),
    ],
)
def test_size_for_model_keeps_aspect_ratio_and_area(shape, sides):
    assert size_for_model(shape, 352, 16) == sides


def test_resizing_equals_pillow():
    photo = np.random.default_rng(1).integers(0, 256, (60, 90, 3), np.uint8)
    pillow = Image.fromarray(photo).resize((40, 32), Image.Resampling.BILINEAR)
    ours = resize(photo, (32, 40)).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - np.asarray(pillow).astype(int)).max() <= 1


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_image_size_applies_the_exif_orientation_in_all_formats(tmp_path, ending, orientation):
    file, exif = tmp_path / f"photo.{ending}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(file, exif=exif)
    assert image_size(file, upright=True) == load_photo(file).shape[:2]
    assert image_size(file) == read_image(file).shape[:2]


def test_size_for_model_of_a_strip_has_no_more_patches_than_a_square():
    for strip in ((1, 89_000_000), (89_000_000, 1), (2, 60_000)):
        height, width = size_for_model(strip, 352, 16)
        assert height * width <= 352 * 352 and height % 16 == width % 16 == 0
    assert size_for_model((100, 4_000), 352, 16) == (48, 2224)


def test_large_transparent_photo_is_blended_with_white(tmp_path):
    Image.new("RGBA", (1500, 1000), (10, 20, 30, 51)).save(tmp_path / "photo.png")
    assert (load_photo(tmp_path / "photo.png") == [206, 208, 210]).all()
    one = np.array([[[10, 20, 30, 51]]], np.uint8)
    assert load_photo(one).tolist() == [[[206, 208, 210]]] and one[0, 0, 0] == 10


def test_formats_that_start_programs_raise(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(UnreadableImageError, match="cannot identify image file"):
        load_photo(tmp_path / "photo.jpg")
    assert image_size(tmp_path / "photo.jpg") is None
