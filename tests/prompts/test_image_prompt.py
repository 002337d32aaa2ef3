"""Examples as prompts: by mask, box and transparency."""

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
    """What the datasets make of a support, resized by albumentations."""
    return VisualPrompt()(*PairedResize(SIDE)(photo, mask))


@pytest.mark.parametrize(
    "kind", ["bool", "0 and 1", "0 and 255", "deep", "deep file", "file", "painted layer"]
)
def test_a_mask_gives_the_visual_prompt_of_the_datasets(tmp_path, kind):
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


def test_a_box_and_transparency_give_that_of_the_same_mask():
    assert np.array_equal(ImagePrompt(PHOTO, box=BOX).engineered(SIDE), expected())
    cut_out = np.dstack([PHOTO, MASK.astype(np.uint8) * 255])
    assert np.array_equal(ImagePrompt(cut_out).engineered(SIDE), expected())


def test_a_box_is_cut_at_the_edges_of_the_image():
    inside, beyond = ImagePrompt(PHOTO, box=(60, 50, 120, 120)), (60, 50, 999, 1e9)
    assert np.array_equal(inside.load()[1], ImagePrompt(PHOTO, box=beyond).load()[1])


def test_an_image_with_nothing_said_is_meant_as_a_whole():
    assert ImagePrompt(PHOTO).load()[1].all()
    assert np.array_equal(ImagePrompt(PHOTO).engineered(120), PHOTO)


def test_the_aspect_is_kept():
    """A square that is meant fills the prompt, whatever the shape of its photo."""
    photo, mask = np.zeros((100, 300, 3), np.uint8), np.zeros((100, 300), bool)
    mask[30:80, 100:150] = True
    photo[mask] = 255
    white = (ImagePrompt(photo, mask=mask).engineered(SIDE) == 255).all(2)
    assert abs(white.any(0).sum() - white.any(1).sum()) <= 2  # of 52


@pytest.mark.parametrize("sides", [(20_000, 2), (1, 9_000), (40_000, 1)])
def test_a_strip_takes_no_more_memory_than_a_photo(sides):
    assert ImagePrompt(Image.new("RGB", sides)).engineered(96).shape == (96, 96, 3)


def test_a_small_thing_in_a_large_photo_is_shown_sharply():
    """Brought to the side first, nothing would be left of it."""
    photo = np.zeros((3000, 4000, 3), np.uint8)
    mask = np.zeros((3000, 4000), bool)
    mask[1000:1020, 2000:2020] = True
    photo[mask] = 255
    white = (ImagePrompt(photo, mask=mask).engineered(SIDE) == 255).all(2)
    assert 0.5 < white.mean() < 0.9  # with its context of a tenth on either side
    corner = np.roll(mask, (-1000, -2000), (0, 1))
    assert (ImagePrompt(photo, mask=corner).engineered(SIDE) == 0).all(2).any()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"mask": np.zeros((120, 120), bool)}, "the mask is empty"),
        ({"mask": np.ones((120, 100), bool)}, "the mask is 100 x 120 pixels, its image 120 x 120"),
        ({"box": (30, 30, 30, 60)}, "box holds no pixel"),
        ({"box": (60, 60, 30, 30)}, "box holds no pixel"),
        ({"box": (130, 0, 150, 50)}, "box holds no pixel"),
        ({"box": (float("nan"), 0, 1, 1)}, "finite"),
        ({"box": BOX, "mask": MASK}, "a mask or a box, not both"),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(options, complaint):
    with pytest.raises(ValueError, match=complaint) as refused:
        ImagePrompt(PHOTO, **options).engineered(SIDE)
    assert "\n" not in str(refused.value) and "[[" not in str(refused.value)


@pytest.mark.parametrize("opened", [False, True])
def test_an_example_that_exif_turns_is_said_to_be_turned(tmp_path, opened):
    file = tmp_path / "cat.png"
    write_turned(file, (24, 32))
    photo, mask = (Image.open(file) if opened else file), np.ones((24, 32), bool)
    turned = (
        r"is stored as 32 x 24 pixels \(width x height\) and its EXIF orientation turns it to 24"
    )
    for options in ({"mask": mask}, {"box": (26, 4, 30, 20)}):
        with pytest.raises(ValueError, match=turned) as refused:
            ImagePrompt(photo, **options).load()
        assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"they must be equal$"):
        ImagePrompt(photo, mask=np.ones((24, 24), bool)).load()


def test_a_wholly_transparent_image_means_nothing():
    with pytest.raises(ValueError, match="the mask is empty"):
        ImagePrompt(np.dstack([PHOTO, np.zeros_like(PHOTO[..., 0])])).engineered(SIDE)


def test_masks_are_bright_above_half_of_the_brightest():
    grey = np.array([[0, 49, 51, 100]], np.uint8)
    assert load_mask(grey).tolist() == [[False, False, True, True]]
    assert not load_mask(np.zeros((2, 2), np.uint8)).any()


@pytest.mark.parametrize("weight", [-0.1, 1.1, float("nan")])
def test_a_weight_lies_between_0_and_1(weight):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Blend("a cat", ImagePrompt(PHOTO), weight)


def test_a_blend_needs_an_example():
    with pytest.raises(ValueError, match="needs an example"):
        Blend("a cat", [])


def test_prompts_have_names():
    file = ImagePrompt("photos/cat.jpg", box=BOX)
    assert describe(file) == "cat" and describe(ImagePrompt(PHOTO)) == "image prompt"
    assert describe(Blend("a cat", [file, file])) == "a cat + cat, cat"
    assert describe("a dog") == "a dog"
