"""Samples of one-shot episodes: framing, targets and supports."""

import numpy as np
import pytest
import torch
from PIL import Image

from clipseg_pl.images import UnreadableImageError
from clipseg_pl.prompts.visual import VisualPrompt
from datamodules.datasets.episodes import Episode
from datamodules.datasets.labelled import LabelledPhotos
from datamodules.datasets.one_shot import OneShotDataset, letterbox
from tests.datasets.own import write_grey_png, write_turned

PLAIN = VisualPrompt(blur=0, background=1, context=None)
PROMPTS = ["a cat", "a dog"]


@pytest.fixture
def photos(tmp_path):
    """Three photos of 40 x 60 pixels: class 1 in the left half, then one ignored column."""
    for number in range(3):
        pixels = np.full((40, 60, 3), 60 * number + 40, np.uint8)
        labels = np.zeros((40, 60), np.uint8)
        labels[:, :30], labels[:, 30] = 2, 255
        labels[0, 59] = 1
        Image.fromarray(pixels).save(tmp_path / f"p{number}.jpg", quality=95)
        palette = Image.fromarray(labels).convert("P")
        palette.putdata(labels.ravel().tolist())
        palette.save(tmp_path / f"p{number}.png")
    return LabelledPhotos(tmp_path, tmp_path)


EPISODE = Episode("p0", 1, ("p1", "p2"))


def sample(photos, framing, prompt=PLAIN):
    return OneShotDataset(photos, [EPISODE], PROMPTS, 24, framing, prompt)[0, 0]


def test_squash_resizes_photo_and_target_to_the_square(photos):
    squashed = sample(photos, "squash")
    (prompt,) = squashed["prompts"]
    assert squashed["query_image"].shape == (3, 24, 24) and squashed["query_size"] == (40, 60)
    assert prompt["query_mask"].shape == (1, 24, 24)
    assert prompt["query_mask"][0].any(0).nonzero()[:, 0].tolist() == list(range(12))
    assert prompt["text_prompt"] == "a dog" and prompt["class_id"] == 1
    assert len(prompt["supports"]) == 2 and not prompt["negative"]


def test_letterbox_pads_with_black_and_keeps_the_target_size(photos):
    padded = sample(photos, "letterbox")
    (prompt,) = padded["prompts"]
    visible = padded["query_image"].float().mean(0) > 20
    assert visible.any(1).nonzero().max() == 15  # 24 * 40 / 60 = 16 rows
    assert visible[:16].all()
    assert prompt["query_mask"].shape == prompt["valid_mask"].shape == (1, 60, 60)
    assert prompt["query_mask"][0, :40, :30].all() and prompt["query_mask"].sum() == 40 * 30
    assert not prompt["valid_mask"][0, 40:].any()  # below the photo
    assert not prompt["valid_mask"][0, :, 30].any()  # labelled 255
    assert prompt["valid_mask"].sum() == 40 * 59


def test_supports_show_only_the_class(photos):
    darkened = VisualPrompt(blur=0, background=0, context=None)
    first, second = sample(photos, "squash", prompt=darkened)["prompts"][0]["supports"]
    assert first.dtype == torch.uint8 and first.shape == (3, 24, 24)
    assert (first[:, :, :11].float() - 100).abs().max() < 6  # photo p1
    assert (second[:, :, :11].float() - 160).abs().max() < 6  # photo p2
    mean = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    assert (first[:, :, 13:].float() - mean).abs().max() <= 1


def test_letterbox_shrinks_to_multiples_of_8():
    labels = np.ones((333, 500), np.uint8)
    image, fitted = letterbox(np.full((333, 500, 3), 200, np.uint8), labels, 352)
    # 333 * 352 / 500 = 234.4 -> 232
    assert (fitted[:232] == 1).all() and (fitted[232:] == 255).all()
    assert (image[:232] == 200).all() and not image[232:].any()


def test_letterbox_does_not_resize_photos_that_fit():
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (210, 280, 3), np.uint8)
    labels = rng.integers(0, 21, (210, 280), np.uint8)
    image, fitted = letterbox(photo, labels, 352)
    assert np.array_equal(image[:210, :280], photo) and not image[210:].any()
    assert np.array_equal(fitted[:210, :280], labels) and (fitted[210:] == 255).all()
    assert not image[:, 280:].any() and (fitted[:, 280:] == 255).all()


def pfenet_sides(height, width, size):
    """Return height and width by PFENet's rule: only larger photos shrink; products are floored."""
    if height <= size and width <= size:
        return height, width
    longer, shorter = max(height, width), min(height, width)
    sides = [size, int(shorter * (size / longer))]
    for i in range(2):
        while sides[i] % 8:
            sides[i] -= 1
    return tuple(sides if height >= width else reversed(sides))


@pytest.mark.parametrize("size", [96, 352, 512])
def test_letterbox_size_equals_pfenet(size):
    rng = np.random.default_rng(size)
    shapes = rng.integers(24, 700, (150, 2)).tolist()
    # for the first two, the float product is just below a multiple of 8
    shapes += [[188, 188], [267, 534], [size, size], [size + 1, size], [size - 1, size]]
    for height, width in shapes:
        expected = pfenet_sides(height, width, size)
        if min(expected) == 0:
            continue
        photo, labels = np.zeros((height, width, 3), np.uint8), np.ones((height, width), np.uint8)
        _, fitted = letterbox(photo, labels, size)
        filled = fitted == 1
        assert (filled.any(1).sum(), filled.any(0).sum()) == expected, (height, width)


def test_prompt_ids_are_unique_and_valid_file_names(photos):
    episodes = [Episode("p0", 1, ("p1",)), Episode("p0", 1, ("p2",))]
    dataset = OneShotDataset(photos, episodes, PROMPTS, 24, "squash", PLAIN)
    names = [dataset[0, number]["prompts"][0]["prompt_id"] for number in range(2)]
    assert len(set(names)) == 2 and not any("/" in name for name in names)


def test_missing_and_invalid_label_maps_raise(photos, tmp_path):
    with pytest.raises(UnreadableImageError, match=r"nothing\.png: no such label map"):
        photos.labels("nothing")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=r"text\.png: cannot be read"):
        photos.labels("text")
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(UnreadableImageError, match=r"colour\.png: has mode RGB"):
        photos.labels("colour")


def test_label_map_of_another_size_than_its_photo_raises(photos, tmp_path):
    Image.new("L", (40, 60)).save(tmp_path / "p0.png")
    with pytest.raises(
        UnreadableImageError, match=r"p0\.png: the label map has 60 x 40 .* 40 x 60$"
    ):
        photos.labels("p0")
    write_turned(tmp_path / "p0.jpg", (40, 60))
    with pytest.raises(UnreadableImageError, match=r"p0\.jpg is stored as 60 x 40 .* to 40 x 60"):
        photos.labels("p0")


def test_grey_maps_of_few_bits_are_read_as_stored(photos, tmp_path):
    values = np.arange(4)[None].repeat(3, 0)
    write_grey_png(tmp_path / "grey.png", values, 2)
    assert np.array_equal(photos.labels_unchecked("grey"), values)


def test_palette_maps_are_read_as_indices(photos):
    assert set(np.unique(photos.labels("p0"))) == {0, 1, 2, 255}
