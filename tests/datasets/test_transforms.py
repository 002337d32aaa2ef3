"""Distribution of random crops, and resizing compared with the authors' code."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.transforms import (
    PairedResize,
    Square,
    object_aware_crop,
    window_on_object,
)


def mask_with(height, width, top, bottom, left, right):
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


def plain_crop(mask, rng):
    """Crop by the authors' rule, as a plain loop: up to 50 tries."""
    height, width = mask.shape
    side = min(height, width)
    best, most = None, -1
    for _ in range(50):
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        visible = mask[top : top + side, left : left + side].sum()
        if visible > 0.05 * height * width:
            return Square(int(top), int(left), side)
        if visible > most:
            best, most = Square(int(top), int(left), side), visible
    return best


MASKS = {
    "large": mask_with(40, 100, 0, 40, 10, 60),
    "exactly 5 % is too small": mask_with(40, 100, 0, 20, 40, 50)
    | mask_with(40, 100, 0, 20, 70, 75),
    "just above 5 %": mask_with(40, 100, 0, 21, 90, 100),
    "small": mask_with(40, 100, 5, 9, 70, 78),
    "two objects": mask_with(40, 100, 5, 9, 1, 8) | mask_with(40, 100, 5, 11, 90, 97),
    "empty": np.zeros((40, 100), bool),
}
MASKS |= {f"{name}, portrait": mask.T for name, mask in MASKS.items()}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_crop_positions_are_distributed_like_those_of_a_plain_loop(mask):
    draws = 1500
    ours = [object_aware_crop(mask, np.random.default_rng([1, i])) for i in range(draws)]
    plain = [plain_crop(mask, np.random.default_rng([2, i])) for i in range(draws)]
    assert {square.side for square in ours} == {min(mask.shape)}
    starts = [[square.top + square.left for square in squares] for squares in (ours, plain)]
    assert stats.ks_2samp(*starts).pvalue > 1e-3
    portrait = mask.shape[0] > mask.shape[1]
    assert all((square.left if portrait else square.top) == 0 for square in ours)


def exact_probabilities(mask):
    """Compute the probability of each position under the rule.

    The rule returns the first of 50 tries that shows enough of the object, or else the first of
    those that show most.
    """
    lines, side = (mask if mask.shape[0] < mask.shape[1] else mask.T), min(mask.shape)
    positions = lines.shape[1] - side + 1
    visible = np.array([lines[:, start : start + side].sum() for start in range(positions)])
    enough = visible * 20 > mask.size
    probabilities = np.zeros(positions)
    if enough.any():
        probabilities[enough] = (1 - (1 - enough.mean()) ** 50) / enough.sum()
    for most in set(visible[~enough].tolist()):
        at, below = visible == most, visible < most
        probability = (at | below).mean() ** 50 - below.mean() ** 50
        probabilities[at] = probability / at.sum()
    return probabilities


# only 10 of 181 positions show enough, so that sometimes none of the 50 tries does
RARE = mask_with(20, 200, 0, 20, 60, 71)


@pytest.mark.parametrize(
    "mask", [*MASKS.values(), RARE, RARE.T], ids=[*MASKS, "rarely enough", "rarely, portrait"]
)
def test_crop_positions_have_the_exact_probabilities_of_the_rule(mask):
    draws = 3000
    squares = [object_aware_crop(mask, np.random.default_rng([3, i])) for i in range(draws)]
    probabilities = exact_probabilities(mask)
    assert probabilities.sum() == pytest.approx(1)
    counts = np.bincount([max(square[:2]) for square in squares], minlength=len(probabilities))
    assert not counts[probabilities == 0].any()
    # the chi-square test needs enough expected samples per bin: merge the rare positions
    order = np.argsort(probabilities)
    rare = order[np.cumsum(probabilities[order]) * draws < 5]
    frequent = np.setdiff1d(order, rare)
    expected = np.append(probabilities[frequent], probabilities[rare].sum()) * draws
    observed = np.append(counts[frequent], counts[rare].sum())
    used = expected > 0
    assert stats.chisquare(observed[used], expected[used]).pvalue > 1e-3


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_crop_is_inside_the_image_and_shows_the_object(mask):
    for i in range(200):
        top, left, side = object_aware_crop(mask, np.random.default_rng(i))
        assert 0 <= top <= mask.shape[0] - side and 0 <= left <= mask.shape[1] - side
        assert mask[top : top + side, left : left + side].any() or not mask.any()


def test_crops_reach_both_ends_of_the_image():
    mask = np.ones((10, 12), bool)
    starts = {object_aware_crop(mask, np.random.default_rng(i)).left for i in range(50)}
    assert starts == {0, 1, 2}


def test_square_images_are_not_cropped():
    crop = object_aware_crop(mask_with(30, 30, 2, 4, 2, 4), np.random.default_rng(0))
    assert crop == Square(0, 0, 30)


def plain_window(mask, side, share, rng):
    """Crop by the rule of the authors' LVIS loader, as a plain loop: up to 200 tries."""
    best, most = None, -1
    for _ in range(200):
        top = int(rng.integers(mask.shape[0] - side + 1))
        left = int(rng.integers(mask.shape[1] - side + 1))
        visible = mask[top : top + side, left : left + side].sum()
        if visible > share * mask.sum() and visible > share * side**2:
            return Square(top, left, side)
        if visible > most:
            best, most = Square(top, left, side), visible
    return best


WINDOWS = {
    "large": mask_with(40, 60, 3, 40, 10, 60),
    "corner, a small part is enough": mask_with(40, 60, 0, 12, 48, 60),
    "5 % of the window is too small": mask_with(40, 60, 20, 24, 30, 35),
    "two objects": mask_with(40, 60, 2, 8, 1, 8) | mask_with(40, 60, 25, 31, 40, 57),
}


@pytest.mark.parametrize("mask", WINDOWS.values(), ids=WINDOWS)
def test_windows_are_distributed_like_those_of_a_plain_loop(mask):
    draws = 1500
    ours = [window_on_object(mask, 20, 0.05, np.random.default_rng([1, i])) for i in range(draws)]
    plain = [plain_window(mask, 20, 0.05, np.random.default_rng([2, i])) for i in range(draws)]
    for axis in range(2):
        starts = [[square[axis] for square in squares] for squares in (ours, plain)]
        assert stats.ks_2samp(*starts).pvalue > 1e-3
    assert {square.side for square in ours} == {20}


def test_window_can_be_the_whole_image():
    mask = mask_with(30, 30, 2, 4, 2, 4)
    assert window_on_object(mask, 30, 0.05, np.random.default_rng(0)) == Square(0, 0, 30)


def authors_resize(image, mask, size):
    """Resize with torch: bilinear with align_corners=True for the image, nearest for the mask."""
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    resized = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=True)
    labels = torch.from_numpy(mask.copy())[None, None].float()
    nearest = F.interpolate(labels, (size, size), mode="nearest")
    return resized[0].permute(1, 2, 0).numpy(), nearest[0, 0].numpy() > 0


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (97, 97), (31, 200)])
def test_masks_are_resized_like_torch_and_stay_binary(shape):
    mask = np.random.default_rng(0).random(shape) < 0.5
    image = np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255
    resized, target = PairedResize(64)(image, mask)
    assert resized.shape == (64, 64, 3) and resized.dtype == np.uint8
    assert target.shape == (64, 64) and target.dtype == np.bool_
    assert (target == authors_resize(image, mask, 64)[1]).all()


def test_images_are_resized_bilinearly_between_pixel_centres():
    image = np.repeat(np.array([[0, 100], [0, 100]], np.uint8)[..., None], 3, 2)
    resized, _ = PairedResize(4)(image, np.ones((2, 2), bool))
    assert resized[..., 0].tolist() == [[0, 25, 75, 100]] * 4


def test_image_and_mask_are_cropped_alike():
    mask = mask_with(40, 100, 10, 30, 50, 70)
    image = np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255
    resized, target = PairedResize(40)(image, mask, Square(0, 45, 40))
    assert np.array_equal(target, mask[:, 45:85])
    assert np.array_equal(resized[..., 0] > 0, target)


def test_images_of_the_target_size_are_unchanged():
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = image[..., 0] > 100
    resized, target = PairedResize(32)(image, mask)
    assert np.array_equal(resized, image) and np.array_equal(target, mask)


def training_crops(root):
    """Yield every third task of the training split, cropped as in training."""
    source = PhraseCut(root, "train")
    for task in range(0, len(source), 3):
        image, mask = source.image(task), source.mask(task)
        square = object_aware_crop(mask, np.random.default_rng(task))
        part = np.s_[square.top : square.top + square.side, square.left : square.left + square.side]
        yield image[part], mask[part]


def whole_photos(root):
    """Yield the photos of all splits, which evaluation squashes to a square."""
    for split in ("train", "val", "test"):
        source = PhraseCut(root, split)
        for task in range(len(source)):
            if source.tasks_of_image(task)[0] == task:
                yield source.image(task), source.mask(task)


@pytest.mark.parametrize(
    ("parts", "average", "worst"), [(training_crops, 1.2, 4.8), (whole_photos, 2.0, 6.8)]
)
def test_difference_to_the_authors_resize_on_real_photos(real_data, parts, average, worst):
    """Measure differences in grey levels, and the fraction of mask pixels that differ."""
    differences, masks, empty = [], [], 0
    resize = PairedResize(352)
    for image, mask in parts(real_data / "phrasecut_coco"):
        ours, target = resize(image, mask)
        theirs, their_target = authors_resize(image, mask, 352)
        differences.append(np.abs(ours - theirs).mean())
        masks.append((target != their_target).mean())
        empty += not target.any() and mask.any()
    assert np.mean(differences) == pytest.approx(average, abs=0.05)
    assert np.max(differences) == pytest.approx(worst, abs=0.05)
    assert np.max(masks) < 0.001 and empty == 0
