"""Masks by brightness, transparency and palette index."""

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


def saved(image: Image.Image, form: str, **options) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, form, **options)
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
def test_arrays_and_tensors_of_any_range_are_masks(channels, kind, dtype, value):
    mask = SQUARE.astype(dtype) * dtype(value)
    if channels:
        mask = mask[..., None].repeat(channels, 2)
    if kind == "tensor":
        mask = torch.from_numpy(mask.transpose(2, 0, 1) if channels else mask)
    assert np.array_equal(load_mask(mask), SQUARE)


def test_alpha_of_any_range_is_the_mask():
    for value in (np.uint8(255), np.float32(1), np.float32(255), np.int64(70_000)):
        layer = np.zeros((*SQUARE.shape, 4), value.dtype)
        layer[..., 3] = SQUARE * value
        assert np.array_equal(load_mask(layer), SQUARE)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, bool])
@pytest.mark.parametrize("colour", [0, 1])
def test_fully_transparent_image_is_an_empty_mask(dtype, colour):
    layer = np.full((*SQUARE.shape, 4), colour, dtype)
    layer[..., 3] = 0
    assert not load_mask(layer).any()
    assert not load_mask(torch.from_numpy(layer).movedim(-1, 0)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint16])
def test_files_of_more_than_8_bits_are_masks(tmp_path, dtype):
    for value in (1, 60_000):
        Image.fromarray(SQUARE.astype(dtype) * dtype(value)).save(tmp_path / "mask.tif")
        assert np.array_equal(load_mask(tmp_path / "mask.tif"), SQUARE)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rest", [0, 1])
def test_values_that_are_not_finite_raise(tmp_path, value, rest):
    wrong = np.array([[value, value], [value, rest]])
    with pytest.raises(ValueError, match="real and finite"):
        load_mask(wrong)
    Image.fromarray(wrong.astype(np.float32)).save(tmp_path / "mask.tif")
    with pytest.raises(UnreadableImageError, match=r"mask.tif: .*real and finite"):
        load_mask(tmp_path / "mask.tif")


@pytest.mark.parametrize("marked", [SQUARE, EMPTY, ~EMPTY], ids=["a part", "nothing", "all"])
def test_coloured_palette_is_read_by_index(tmp_path, marked):
    """Some versions of CVAT wrote a green background and black objects."""
    indexed(marked, (48, 112, 32), (0, 0, 0)).save(tmp_path / "mask.png")
    assert np.array_equal(load_mask(tmp_path / "mask.png"), marked)


@pytest.mark.parametrize("colour", [RED, (64, 0, 0), (0, 0, 128), (192, 128, 128)])
@pytest.mark.parametrize(
    "quantise",
    [
        lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE),
        lambda image: image.quantize(2),
        lambda image: image.quantize(256),
    ],
)
def test_palette_with_the_object_at_index_0_raises(tmp_path, colour, quantise):
    quantise(painted(colour)).save(tmp_path / "mask.png")
    with pytest.raises(UnreadableImageError, match=r"mask.png: .*at index 0.*on black, m") as error:
        load_mask(tmp_path / "mask.png")
    assert str(colour) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("background", [(0, 0, 0), (32, 0, 0), WHITE, (0, 0, 255)])
def test_palette_with_a_background_of_similar_brightness_is_read_by_index(background):
    assert np.array_equal(load_mask(indexed(SQUARE, background, RED)), SQUARE)


def test_palette_with_an_unused_transparent_index_is_read_by_index(tmp_path):
    mask = indexed(SQUARE, (48, 112, 32), (0, 0, 0), RED)
    mask.save(tmp_path / "mask.png", transparency=2)
    assert np.array_equal(load_mask(tmp_path / "mask.png"), SQUARE)


@pytest.mark.parametrize(
    "palette", [[WHITE, (0, 0, 0)], [(0, 0, 0), WHITE, RED]], ids=["inverted", "unused red"]
)
def test_grey_palette_is_read_by_brightness(palette):
    white = palette.index(WHITE)
    indices = np.where(SQUARE, white, 1 - white)
    assert np.array_equal(load_mask(indexed(indices, *palette)), SQUARE)


@pytest.mark.parametrize(("mode", "other"), [("RGB", GREEN), ("P", GREEN), ("P", CREAM)])
def test_several_colours_raise(tmp_path, mode, other):
    image = painted(RED, other)
    if mode == "P":
        image = indexed(SQUARE * 1 + OTHER * 2, (0, 0, 0), RED, other)
    image.save(tmp_path / "mask.png")
    with pytest.raises(UnreadableImageError, match=r"mask.png: .*column `label`") as error:
        load_mask(tmp_path / "mask.png")
    assert "one object, white on black" in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(ValueError, match="the mask is ambiguous"):
        ImagePrompt(np.zeros((40, 60, 3), np.uint8), mask=image).load()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((192, 0, 0), (64, 0, 0)),  # VOC's chair and cat
        ((192, 0, 0), (128, 0, 0)),  # chair and aeroplane
        ((128, 64, 128), (244, 35, 232)),  # Cityscapes' road and sidewalk
        ((220, 20, 60), RED),  # person and rider
        (RED, (0, 255, 0)),
        (WHITE, RED),
    ],
)
@pytest.mark.parametrize("kind", ["file", "image", "array", "floats", "tensor"])
def test_two_similar_colours_raise(tmp_path, one, other, kind):
    image = painted(one, other)
    image.save(tmp_path / "mask.png")
    pixels = np.asarray(image)
    pictures = {
        "file": tmp_path / "mask.png",
        "image": image,
        "array": pixels.astype(np.int64) << 8,
        "floats": pixels / 255,
        "tensor": torch.from_numpy(pixels.copy()).permute(2, 0, 1),
    }
    with pytest.raises((ValueError, UnreadableImageError), match="has several colours"):
        load_mask(pictures[kind])


def test_small_patch_of_a_second_colour_raises():
    image = np.asarray(painted(RED)).copy()
    image[2:5, 2:4] = 0, 255, 0
    with pytest.raises(ValueError, match="has several colours"):
        load_mask(image)


def test_colour_on_white_raises():
    """By brightness, the whole image would be the object."""
    with pytest.raises(ValueError, match="several colours"):
        load_mask(painted(RED, RED, WHITE))


def blurred(colour) -> tuple[Image.Image, np.ndarray]:
    """Return an image of shapes with soft edges, and the mask of the shapes before blurring."""
    image = Image.new("RGB", (300, 200))
    drawn = ImageDraw.Draw(image)
    drawn.ellipse((40, 40, 160, 160), fill=colour)
    drawn.line((170, 10, 290, 190), fill=colour, width=3)
    expected = np.asarray(image).max(2) > 0
    return image.filter(ImageFilter.GaussianBlur(1)), expected


@pytest.mark.parametrize("colour", [RED, (64, 0, 0), (60, 40, 20), (192, 128, 128), WHITE])
def test_soft_edges_do_not_count_as_colours(colour):
    image, expected = blurred(colour)
    for small in (image, image.resize((137, 91))):
        shape = Image.fromarray(expected).resize(small.size)
        assert (load_mask(small) != np.asarray(shape)).mean() < 0.015


@pytest.mark.parametrize("size", [(512, 341), (137, 91)])
@pytest.mark.parametrize("scaling", [Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
@pytest.mark.parametrize(
    "colour", [(255, 128, 0), (255, 64, 64), (255, 165, 0), (255, 200, 100), (0, 128, 255), RED]
)
def test_overshoot_of_resizing_does_not_count_as_a_colour(colour, scaling, size):
    image = Image.new("RGB", (300, 200))
    ImageDraw.Draw(image).ellipse((40, 40, 160, 160), fill=colour)
    shape = image.getchannel(int(np.argmax(colour))).resize(size, scaling)
    assert (load_mask(image.resize(size, scaling)) != (np.asarray(shape) > 127)).mean() < 0.01


@pytest.mark.parametrize("second", [(0, 128, 255), (255, 0, 0), (200, 200, 0)])
def test_thin_line_of_a_second_colour_raises(second):
    image = Image.new("RGB", (300, 200))
    drawn = ImageDraw.Draw(image)
    drawn.ellipse((40, 40, 160, 160), fill=(255, 128, 0))
    drawn.line((170, 10, 290, 190), fill=second)
    with pytest.raises(ValueError, match="several colours"):
        load_mask(image)


@pytest.mark.parametrize("form", ["TIFF", "JPEG2000"])
def test_noise_of_rare_lossy_formats_does_not_count_as_a_colour(form):
    image, expected = blurred((220, 20, 60))
    options = {"TIFF": {"compression": "jpeg"}, "JPEG2000": {"quality_layers": [40]}}[form]
    assert (load_mask(saved(image, form, **options)) != expected).mean() < 0.015


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize("quality", [50, 90])
@pytest.mark.parametrize("colour", [WHITE, RED, (0, 0, 255), (220, 20, 60), (192, 128, 128)])
def test_noise_of_lossy_formats_does_not_count_as_a_colour(form, quality, colour):
    image, expected = blurred(colour)
    assert (load_mask(saved(image, form, quality=quality)) != expected).mean() < 0.01


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    ("colour", "other"),
    [(RED, GREEN), ((128, 0, 0), (192, 0, 0)), ((220, 20, 60), RED), (WHITE, RED)],
)
def test_two_colours_in_lossy_formats_raise(form, colour, other):
    image = blurred(colour)[0]
    ImageDraw.Draw(image).rectangle((200, 100, 280, 180), fill=other)
    with pytest.raises(ValueError, match="several colours"):
        load_mask(saved(image, form, quality=75))


def test_empty_mask_saved_as_jpeg_is_empty(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 3, SQUARE.shape, np.uint8))
    for mode in ("L", "RGB"):
        noise.convert(mode).save(tmp_path / "mask.jpg", quality=100)
        assert len(np.unique(np.asarray(Image.open(tmp_path / "mask.jpg")))) > 2
        assert not load_mask(tmp_path / "mask.jpg").any()
    with pytest.raises(ValueError, match="the mask is empty"):
        ImagePrompt(np.zeros((40, 60, 3), np.uint8), mask=tmp_path / "mask.jpg").load()


@pytest.mark.parametrize("step", [1, 10])
@pytest.mark.parametrize("kind", ["file", "RGB", "image", "array", "deep", "tensor"])
def test_label_map_with_low_values_raises(tmp_path, step, kind):
    labels = ((SQUARE + 2 * OTHER) * step).astype(np.uint8)
    image = Image.fromarray(labels)
    image.convert("RGB" if kind == "RGB" else "L").save(tmp_path / "mask.png")
    pictures = {
        "image": image,
        "array": labels.astype(np.int64),
        "deep": Image.fromarray(labels.astype(np.uint16)),
        "tensor": torch.from_numpy(labels),
    }
    message = rf"several values, 0 to {2 * step}, like a label map\. .*`label`"
    with pytest.raises((ValueError, UnreadableImageError), match=message):
        load_mask(pictures.get(kind, tmp_path / "mask.png"))


def test_floats_with_many_values_are_probabilities():
    assert load_mask(np.array([[0, 0.2, 0.4, 0.9]])).tolist() == [[False, False, False, True]]


def test_dark_mask_with_two_values_is_a_mask():
    for low, high in ((0, 1), (0, 20), (3, 9)):
        assert np.array_equal(load_mask(np.where(SQUARE, high, low).astype(np.uint8)), SQUARE)
