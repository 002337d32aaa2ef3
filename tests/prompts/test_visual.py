"""Visual prompts on uint8 pixels, compared with the same operations on normalised floats.

`reference` modifies ImageNet-normalised arrays like the authors, where zero is the mean colour.
"""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clipseg_pl.prompts.visual import MEAN_COLOUR, TABLE_2, VisualPrompt

SIZE = 96
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)


def blob(top: int, left: int, height: int, width: int) -> np.ndarray:
    """Return the mask of an ellipse in a box."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    down = (rows - top - (height - 1) / 2) / (height / 2)
    right = (columns - left - (width - 1) / 2) / (width / 2)
    return down**2 + right**2 <= 1


MASKS = {
    "inside": blob(30, 25, 25, 37),
    "tall": blob(10, 40, 73, 11),
    "corner": blob(-20, -15, 50, 47),
    "edge": blob(40, 80, 30, 30),
    "pixel": blob(50, 60, 1, 1),
    "two": blob(5, 5, 20, 20) | blob(60, 50, 25, 31),
    "empty": np.zeros((SIZE, SIZE), bool),
    "full": np.ones((SIZE, SIZE), bool),
}


@pytest.fixture
def image() -> np.ndarray:
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.uniform(0, 255, (6, 6, 3)), (SIZE, SIZE))
    return np.clip(smooth + rng.normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)


def reference(image: np.ndarray, mask: np.ndarray, prompt: VisualPrompt) -> np.ndarray:
    pixels = image.astype(np.float32) / 255
    inside = mask[..., None].astype(np.float32)
    if prompt.dye:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
        pixels = np.array((1, 0.2, 0.2)) * grey * inside + grey * (1 - inside)
    if prompt.outline:
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        line = np.zeros(mask.shape, np.uint8)
        cv2.drawContours(line, contours, -1, thickness=5, color=255)
        line = line[..., None] / np.float32(255)
        pixels = np.array((1, 0, 0)) * line + pixels * (1 - line)
    normalised = ((pixels - MEAN) / STD).astype(np.float32)
    behind = normalised
    if prompt.blur:
        behind = cv2.GaussianBlur(normalised, (15, 15), prompt.blur)
    normalised = normalised * inside + prompt.background * behind * (1 - inside)
    if prompt.context is not None:
        normalised = crop(normalised, mask, prompt.context)
    return (normalised * STD + MEAN) * 255


def crop(normalised: np.ndarray, mask: np.ndarray, context: float, side: int = SIZE) -> np.ndarray:
    """Crop to the object with its context, pad with zeros and resize with torch's default."""
    bounds = []
    for occupied in (mask.any(1), mask.any(0)):
        first = int(occupied.argmax())
        end = len(occupied) - int(occupied[::-1].argmax())
        grown = context * (end - first)
        bounds += [int(max(0, first - grown)), int(min(len(occupied), end + grown))]
    top, bottom, left, right = bounds
    tensor = torch.from_numpy(normalised[top:bottom, left:right]).permute(2, 0, 1)
    height, width = tensor.shape[1:]
    across, down = max(0, height - width), max(0, width - height)
    padding = (across // 2, across - across // 2, down // 2, down - down // 2)
    square = F.pad(tensor, padding)
    return F.interpolate(square[None], (side, side))[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("where", MASKS)
@pytest.mark.parametrize("name", TABLE_2)
def test_operations_of_table_2_equal_the_normalised_reference(image, name, where):
    made = TABLE_2[name](image, MASKS[where])
    wanted = reference(image, MASKS[where], TABLE_2[name])
    assert made.shape == (SIZE, SIZE, 3) and made.dtype == np.uint8
    assert np.abs(made - wanted).max() <= 1.5


@pytest.mark.parametrize("size", range(1, SIZE, 3))
def test_crops_are_resized_like_in_torch(image, size):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[: size // 2 + 1, SIZE - size :] = True
    prompt = VisualPrompt(blur=0, background=1, context=0.1)
    assert np.abs(prompt(image, mask) - reference(image, mask, prompt)).max() <= 1


@pytest.mark.parametrize("side", [1, 61, 96, 150])
def test_crops_are_resized_to_a_given_side(image, side):
    mask = MASKS["tall"]
    made = VisualPrompt(blur=0, background=1, context=0.1)(image, mask, side)
    normalised = ((image / 255 - MEAN) / STD).astype(np.float32)
    wanted = (crop(normalised, mask, 0.1, side) * STD + MEAN) * 255
    assert made.shape == (side, side, 3) and np.abs(made - wanted).max() <= 1
    assert VisualPrompt(context=None)(image, mask, side).shape == image.shape


@pytest.mark.parametrize("where", MASKS)
def test_crop_equals_the_crop_of_the_modified_image(image, where):
    mask = MASKS[where]
    whole = VisualPrompt(context=None)(image, mask)
    crop_alone = VisualPrompt(blur=0, background=1, context=0.1)
    assert np.array_equal(VisualPrompt(context=0.1)(image, mask), crop_alone(whole, mask))


def test_default_is_the_best_row_of_table_2():
    assert VisualPrompt() == TABLE_2["crop + blur + intensity 10%"]
    assert VisualPrompt() == VisualPrompt(False, False, 3.0, 0.1, 0.1)


def test_operations_differ(image):
    made = {name: prompt(image, MASKS["inside"]).tobytes() for name, prompt in TABLE_2.items()}
    assert len(set(made.values())) == len(TABLE_2)


def test_inputs_are_not_modified(image):
    before, mask = image.copy(), MASKS["inside"].copy()
    for prompt in TABLE_2.values():
        prompt(image, mask)
    assert np.array_equal(image, before) and np.array_equal(mask, MASKS["inside"])


def test_darkening_blends_with_the_mean_colour(image):
    mask = MASKS["inside"]
    made = TABLE_2["intensity 0%"](image, mask)
    assert np.array_equal(made[mask], image[mask])
    assert np.abs(made[~mask] - np.array(MEAN_COLOUR)).max() <= 0.5


def test_blur_does_not_change_the_object(image):
    made = TABLE_2["blur + intensity 10%"](image, MASKS["inside"])
    assert np.array_equal(made[MASKS["inside"]], image[MASKS["inside"]])


def test_crop_by_hand():
    image = np.zeros((8, 8, 3), np.uint8)
    image[2:4, 1:5] = 200
    mask = image[..., 0] > 0
    made = VisualPrompt(blur=0, background=1, context=0)(image, mask)
    grey = np.round(MEAN_COLOUR)  # 4 x 2 pixels become 8 x 4, padded above and below
    assert (made[2:6] == 200).all()
    assert (made[:2] == grey).all() and (made[6:] == grey).all()


def test_crop_of_a_rectangular_image_is_a_square_of_its_height():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    mask = np.zeros((40, 60), bool)
    mask[5:15, 45:60] = True
    assert VisualPrompt()(image, mask).shape == (40, 40, 3)
    assert VisualPrompt(context=None)(image, mask).shape == (40, 60, 3)
    assert VisualPrompt()(image, ~mask & mask).shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"blur": -1}, "blur"),
        ({"blur": float("nan")}, "blur"),
        ({"background": -0.1}, "background"),
        ({"background": 1.1}, "background"),
        ({"background": float("nan")}, "background"),
        ({"context": -0.1}, "context"),
        ({"context": float("nan")}, "context"),
    ],
)
def test_values_out_of_range_raise(options, name):
    with pytest.raises(ValueError, match=f"visual_prompt.{name}"):
        VisualPrompt(**options)
