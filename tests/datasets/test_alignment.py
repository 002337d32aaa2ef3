"""Which objects of LVIS the prompt-engineering experiment is measured on, and how they are cut."""

from collections import Counter

import numpy as np
import pytest

from datamodules.datasets.alignment import crop_object, large_objects
from datamodules.datasets.lvis import Pair

HEIGHT, WIDTH = 50, 80


class Drawn:
    """Annotations without files: image -> category -> share of the image; photos count pixels."""

    names = {number: f"thing {number}" for number in range(10)}

    def __init__(self, images: dict[int, dict[int, float]], shape=(HEIGHT, WIDTH)) -> None:
        self.images, self.shape = images, shape
        self.pairs = [Pair(image, category) for image in images for category in images[image]]

    def categories(self, image):
        return sorted(self.images[image])

    def mask(self, pair):
        mask = np.zeros(self.shape, bool)
        pixels = round(self.images[pair.image][pair.category] * mask.size)
        mask.T.flat[:pixels] = True  # from the left, column by column
        return mask

    def photo(self, image):
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]]
        return np.stack([rows, columns, np.full_like(rows, image)], -1).astype(np.uint8)


IMAGES = {
    1: {2: 0.5, 5: 0.1, 7: 0.11},  # 0.1 is not more than a tenth
    2: {2: 0.9, 5: 0.9},  # two names only
    3: {1: 0.2, 2: 0.05, 3: 0.3, 4: 0.0},
}


def test_objects_over_a_tenth_among_three_names_qualify():
    skipped = Counter()
    found = list(large_objects(Drawn(IMAGES), 0, skipped))
    assert sorted(found) == [Pair(1, 2), Pair(1, 7), Pair(3, 1), Pair(3, 3)]
    assert skipped == {
        "in images with fewer than 3 names": 2,
        "on at most 10% of the image": 3,
    }


def test_their_order_is_drawn_by_the_seed():
    orders = [tuple(large_objects(Drawn(IMAGES), seed, Counter())) for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1] and len(set(orders)) > 1


def test_a_crop_is_a_part_of_photo_and_mask_alike():
    source = Drawn(IMAGES)
    crop = crop_object(source, Pair(3, 1), 32, seed=0)
    assert crop.image.shape == (32, 32, 3) and crop.mask.shape == (32, 32)
    top, left, image = crop.image[0, 0].tolist()
    rows, columns = slice(top, top + 32), slice(left, left + 32)
    assert image == 3 and np.array_equal(crop.image, source.photo(3)[rows, columns])
    assert np.array_equal(crop.mask, source.mask(Pair(3, 1))[rows, columns])


def test_the_objects_name_comes_first():
    crop = crop_object(Drawn(IMAGES), Pair(3, 3), 32, seed=0)
    assert crop.names == ["thing 3", "thing 1", "thing 2", "thing 4"]


def test_crops_show_the_object_and_are_drawn_by_seed_and_pair():
    source = Drawn(IMAGES)
    crops = {}
    for seed in range(30):
        for pair in (Pair(1, 7), Pair(3, 1)):
            crop = crop_object(source, pair, 32, seed)
            assert crop.mask.sum() > 0.05 * max(32 * 32, source.mask(pair).sum())
            again = crop_object(source, pair, 32, seed)
            assert np.array_equal(crop.image, again.image)
            crops[pair, seed] = tuple(crop.image[0, 0, :2])
    assert len(set(crops.values())) > 20


@pytest.mark.parametrize("shape", [(20, 60), (60, 20), (10, 10)])
def test_small_photos_are_enlarged(shape):
    """Their short side becomes 35, 1.1 times the crop's, and their aspect stays."""
    source = Drawn({1: {1: 0.4, 2: 0.2, 3: 0.3}}, shape)
    crop = crop_object(source, Pair(1, 1), 32, seed=0)
    assert crop.image.shape == (32, 32, 3) and crop.mask.shape == (32, 32)
    scale = 35 / min(shape)
    steps = np.diff(crop.image[..., :2].astype(float), axis=0).mean((0, 1))[0]
    assert steps == pytest.approx(1 / scale, rel=0.2)
    # the object still begins at the left, where the second channel counts columns from 0
    inside = crop.image[..., 1][crop.mask]
    assert inside.max() <= crop.image[..., 1][~crop.mask].min() + 1
