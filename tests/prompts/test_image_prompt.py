"""Image prompts with a mask, a box or transparency, and blends."""

import numpy as np
import pytest
from PIL import Image

from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, describe, load_mask
from clipseg_pl.prompts.visual import VisualPrompt
from datamodules.datasets.transforms import PairedResize
from tests.datasets.own import write_turned

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (120, 120, 3), np.uint8)
MASK = np.zeros((120, 120), bool)
MASK[30:80, 20:60] = True
BOX = (20, 30, 60, 80)
SIDE = 64


def expected(photo=PHOTO, mask=MASK):
    """Return the visual prompt that the datasets create, resized by albumentations."""
    return VisualPrompt()(*PairedResize(SIDE)(photo, mask))


@pytest.mark.parametrize(
    "kind", ["bool", "0 and 1", "0 and 255", "deep", "deep file", "file", "painted layer"]
)
def test_mask_gives_the_same_visual_prompt_as_the_datasets(tmp_path, kind):
    grey = MASK.astype(np.uint8) * 255
    Image.fromarray(grey).save(tmp_path / "mask.png")
    Image.fromarray(MASK.astype(np.uint16)).save(tmp_path / "deep.png")
    masks = {
        "bool": MASK,
        "deep file": tmp_path / "deep.png",
        "0 and 1": MASK.astype(np.uint8),
        "0 and 255": grey,
        "deep": MASK.astype(np.uint16) * 3,
        "file": tmp_path / "mask.png",
        "painted layer": np.dstack([np.zeros_like(PHOTO), grey]),  # black paint
    }
    prompt = ImagePrompt(PHOTO, mask=masks[kind])
    assert np.array_equal(prompt.engineered(SIDE), expected())


def test_box_and_transparency_give_the_same_visual_prompt_as_a_mask():
    assert np.array_equal(ImagePrompt(PHOTO, box=BOX).engineered(SIDE), expected())
    cut_out = np.dstack([PHOTO, MASK.astype(np.uint8) * 255])
    assert np.array_equal(ImagePrompt(cut_out).engineered(SIDE), expected())


def test_box_is_clipped_to_the_image():
    inside, beyond = ImagePrompt(PHOTO, box=(60, 50, 120, 120)), (60, 50, 999, 1e9)
    assert np.array_equal(inside.load()[1], ImagePrompt(PHOTO, box=beyond).load()[1])


def test_without_mask_and_box_the_whole_image_is_the_object():
    assert ImagePrompt(PHOTO).load()[1].all()
    assert np.array_equal(ImagePrompt(PHOTO).engineered(120), PHOTO)


def test_aspect_ratio_is_kept():
    """A square object stays square, whatever the shape of its photo."""
    photo, mask = np.zeros((100, 300, 3), np.uint8), np.zeros((100, 300), bool)
    mask[30:80, 100:150] = True
    photo[mask] = 255
    white = (ImagePrompt(photo, mask=mask).engineered(SIDE) == 255).all(2)
    assert abs(white.any(0).sum() - white.any(1).sum()) <= 2  # of 52


@pytest.mark.parametrize("sides", [(20_000, 2), (1, 9_000), (40_000, 1)])
def test_strip_needs_no_more_memory_than_a_photo(sides):
    assert ImagePrompt(Image.new("RGB", sides)).engineered(96).shape == (96, 96, 3)


def test_small_object_in_a_large_photo_stays_sharp():
    """Resizing the whole photo first would leave nothing of the object."""
    photo = np.zeros((3000, 4000, 3), np.uint8)
    mask = np.zeros((3000, 4000), bool)
    mask[1000:1020, 2000:2020] = True
    photo[mask] = 255
    white = (ImagePrompt(photo, mask=mask).engineered(SIDE) == 255).all(2)
    assert 0.5 < white.mean() < 0.9  # with a context of 10 % on each side
    corner = np.roll(mask, (-1000, -2000), (0, 1))
    assert (ImagePrompt(photo, mask=corner).engineered(SIDE) == 0).all(2).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": np.zeros((120, 120), bool)}, "the mask is empty"),
        (
            {"mask": np.ones((120, 100), bool)},
            "the mask is 100 x 120 pixels, but its image is 120 x 120",
        ),
        ({"box": (30, 30, 30, 60)}, "box contains no pixel"),
        ({"box": (60, 60, 30, 30)}, "box contains no pixel"),
        ({"box": (130, 0, 150, 50)}, "box contains no pixel"),
        ({"box": (float("nan"), 0, 1, 1)}, "finite"),
        ({"box": BOX, "mask": MASK}, "a mask or a box, not both"),
    ],
)
def test_invalid_mask_or_box_raises_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as error:
        ImagePrompt(PHOTO, **options).engineered(SIDE)
    assert "\n" not in str(error.value) and "[[" not in str(error.value)


@pytest.mark.parametrize("opened", [False, True])
def test_error_mentions_the_exif_orientation_of_the_image(tmp_path, opened):
    file = tmp_path / "cat.png"
    write_turned(file, (24, 32))
    photo, mask = (Image.open(file) if opened else file), np.ones((24, 32), bool)
    turned = (
        r"is stored as 32 x 24 pixels \(width x height\) and its EXIF orientation turns it to 24"
    )
    for options in ({"mask": mask}, {"box": (26, 4, 30, 20)}):
        with pytest.raises(ValueError, match=turned) as error:
            ImagePrompt(photo, **options).load()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"24 x 24 pixels, but its image is 24 x 32$"):
        ImagePrompt(photo, mask=np.ones((24, 24), bool)).load()


def test_fully_transparent_image_has_an_empty_mask():
    with pytest.raises(ValueError, match="the mask is empty"):
        ImagePrompt(np.dstack([PHOTO, np.zeros_like(PHOTO[..., 0])])).engineered(SIDE)


def test_mask_is_brighter_than_half_of_the_maximum():
    grey = np.array([[0, 49, 51, 100]], np.uint8)
    assert load_mask(grey).tolist() == [[False, False, True, True]]
    assert not load_mask(np.zeros((2, 2), np.uint8)).any()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_weight_outside_0_to_1_raises(weight):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Blend("a cat", ImagePrompt(PHOTO), weight)


def test_blend_needs_an_image_prompt():
    with pytest.raises(ValueError, match="needs at least one ImagePrompt"):
        Blend("a cat", [])


def test_names_of_prompts_in_results():
    file = ImagePrompt("photos/cat.jpg", box=BOX)
    assert describe(file) == "cat" and describe(ImagePrompt(PHOTO)) == "image prompt"
    assert describe(Blend("a cat", [file, file])) == "a cat + cat, cat"
    assert describe("a dog") == "a dog"
