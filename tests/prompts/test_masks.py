"""Masks by brightness, by transparency and by the numbers of a palette."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.prompts.image_prompt import ImagePrompt
from clipseg_pl.prompts.masks import load_mask

SQUARE = np.zeros((40, 60), bool)
SQUARE[10:30, 20:50] = True
OTHER = np.zeros((40, 60), bool)
OTHER[2:8, 2:12] = True
EMPTY = np.zeros((40, 60), bool)
RED, GREEN, WHITE, CREAM = (255, 0, 0), (0, 128, 0), (255, 255, 255), (224, 224, 192)


def painted(colour, other=(0, 0, 0), background=(0, 0, 0)) -> Image.Image:
    image = np.full((*SQUARE.shape, 3), background, np.uint8)
    image[SQUARE], image[OTHER] = colour, other
    return Image.fromarray(image)


def indexed(indices, *palette) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette([value for colour in palette for value in colour])
    return image


def as_jpeg(image: Image.Image, quality: int = 75) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("kind", ["array", "tensor"])
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (np.uint8, 1),
        (np.uint8, 255),
        (np.float32, 255),
        (np.float16, 1),
        (np.float64, 1e-3),
        (np.int16, 300),
        (np.int64, 70_000),
        (np.int64, 1 << 40),
    ],
)
def test_numbers_of_any_range_are_a_mask(channels, kind, dtype, value):
    mask = SQUARE.astype(dtype) * dtype(value)
    if channels:
        mask = mask[..., None].repeat(channels, 2)
    if kind == "tensor":
        mask = torch.from_numpy(mask.transpose(2, 0, 1) if channels else mask)
    assert np.array_equal(load_mask(mask), SQUARE)


def test_layers_of_any_range_are_read_by_their_transparency():
    for value in (np.uint8(255), np.float32(1), np.float32(255), np.int64(70_000)):
        layer = np.zeros((*SQUARE.shape, 4), value.dtype)
        layer[..., 3] = SQUARE * value
        assert np.array_equal(load_mask(layer), SQUARE)


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16])
def test_deep_files_of_any_range_are_a_mask(tmp_path, dtype):
    for value in (1, 60_000):
        Image.fromarray(SQUARE.astype(dtype) * dtype(value)).save(tmp_path / "mask.tif")
        assert np.array_equal(load_mask(tmp_path / "mask.tif"), SQUARE)


@pytest.mark.parametrize("wrong", [np.full((2, 2), np.nan), np.full((2, 2), np.inf, np.float32)])
def test_numbers_that_are_not_finite_are_no_mask(tmp_path, wrong):
    with pytest.raises(ValueError, match="all of them finite"):
        load_mask(wrong)
    Image.fromarray(wrong.astype(np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(UnreadableImageError, match=r"mask.tif: .*all of them finite"):
        load_mask(tmp_path / "mask.tif")


@pytest.mark.parametrize("marked", [SQUARE, EMPTY, ~EMPTY], ids=["a part", "nothing", "all"])
def test_a_palette_of_colours_counts_by_its_indices(tmp_path, marked):
    """CVAT's, for a while: the background is green, what is marked is black."""
    indexed(marked, (48, 112, 32), (0, 0, 0)).save(tmp_path / "mask.png")
    assert np.array_equal(load_mask(tmp_path / "mask.png"), marked)


@pytest.mark.parametrize(
    "palette", [[WHITE, (0, 0, 0)], [(0, 0, 0), WHITE, RED]], ids=["inverted", "unused red"]
)
def test_a_palette_of_greys_counts_by_its_brightness(palette):
    white = palette.index(WHITE)
    indices = np.where(SQUARE, white, 1 - white)
    assert np.array_equal(load_mask(indexed(indices, *palette)), SQUARE)


@pytest.mark.parametrize(("mode", "other"), [("RGB", GREEN), ("P", GREEN), ("P", CREAM)])
def test_a_mask_of_several_colours_is_refused(tmp_path, mode, other):
    image = painted(RED, other)
    if mode == "P":
        image = indexed(SQUARE * 1 + OTHER * 2, (0, 0, 0), RED, other)
    image.save(tmp_path / "mask.png")
    with pytest.raises(UnreadableImageError, match=r"mask.png: .*as `label`") as no:
        load_mask(tmp_path / "mask.png")
    assert "one thing, white on black" in str(no.value) and "\n" not in str(no.value)
    with pytest.raises(ValueError, match="nothing says which is meant"):
        ImagePrompt(np.zeros((40, 60, 3), np.uint8), mask=image).load()


def test_a_colour_on_white_is_refused():
    """By brightness, all of it would be marked."""
    with pytest.raises(ValueError, match="several colours"):
        load_mask(painted(RED, RED, WHITE))


@pytest.mark.parametrize("colour", [RED, (0, 0, 255), (255, 255, 0), (192, 128, 128), WHITE])
@pytest.mark.parametrize("quality", [50, 90, None])
def test_edges_and_noise_are_no_further_colours(colour, quality):
    image = Image.new("RGB", (300, 200))
    drawn = ImageDraw.Draw(image)
    drawn.ellipse((40, 40, 160, 160), fill=colour)
    drawn.line((170, 10, 290, 190), fill=colour, width=3)
    expected = np.asarray(image).max(2) > 0
    image = image.filter(ImageFilter.GaussianBlur(1))
    image = as_jpeg(image, quality) if quality else image
    assert (load_mask(image) != expected).mean() < 0.01


def test_an_empty_mask_saved_as_jpeg_is_empty():
    noise = np.random.default_rng(0).integers(0, 3, SQUARE.shape, np.uint8)
    for image in (Image.fromarray(noise), Image.fromarray(noise).convert("RGB"), noise):
        assert not load_mask(image).any()
    with pytest.raises(ValueError, match="the mask is empty"):
        ImagePrompt(np.zeros((40, 60, 3), np.uint8), mask=noise).load()


def test_a_mask_of_two_values_is_one_however_dark():
    for low, high in ((0, 1), (0, 20), (3, 9)):
        assert np.array_equal(load_mask(np.where(SQUARE, high, low).astype(np.uint8)), SQUARE)
