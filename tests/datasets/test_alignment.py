"""Objects and crops of the visual prompt engineering experiment on LVIS."""

from collections import Counter

import numpy as np
import pytest

from datamodules.datasets.alignment import crop_object, large_objects
from datamodules.datasets.lvis import Pair

HEIGHT, WIDTH = 50, 80


class FakeLVIS:
    """Annotations without files: image -> category -> fraction of the image that it covers.

    The channels of a photo are the row, the column and the image id of each pixel.
    """

    names = {number: f"thing {number}" for number in range(10)}

    def __init__(self, images: dict[int, dict[int, float]], shape=(HEIGHT, WIDTH)) -> None:
        self.images, self.shape = images, shape
        self.pairs = [Pair(image, category) for image in images for category in images[image]]

    def categories(self, image):
        return sorted(self.images[image])

    def mask(self, pair):
        mask = np.zeros(self.shape, bool)
        pixels = round(self.images[pair.image][pair.category] * mask.size)
        mask.T.flat[:pixels] = True  # column by column, from the left
        return mask

    def photo(self, image):
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]]
        return np.stack([rows, columns, np.full_like(rows, image)], -1).astype(np.uint8)


IMAGES = {
    1: {2: 0.5, 5: 0.1, 7: 0.11},  # 0.1 is too small: it must be more than a tenth
    2: {2: 0.9, 5: 0.9},  # only two names
    3: {1: 0.2, 2: 0.05, 3: 0.3, 4: 0.0},
}


def test_only_large_objects_in_images_with_three_names_qualify():
    skipped = Counter()
    objects = list(large_objects(FakeLVIS(IMAGES), 0, skipped))
    assert sorted(objects) == [Pair(1, 2), Pair(1, 7), Pair(3, 1), Pair(3, 3)]
    assert skipped == {
        "in images with fewer than 3 names": 2,
        "on at most 10% of the image": 3,
    }


def test_order_of_objects_depends_on_the_seed():
    orders = [tuple(large_objects(FakeLVIS(IMAGES), seed, Counter())) for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1] and len(set(orders)) > 1


def test_crop_is_the_same_part_of_photo_and_mask():
    source = FakeLVIS(IMAGES)
    crop = crop_object(source, Pair(3, 1), 32, seed=0)
    assert crop.image.shape == (32, 32, 3) and crop.mask.shape == (32, 32)
    top, left, image = crop.image[0, 0].tolist()
    rows, columns = slice(top, top + 32), slice(left, left + 32)
    assert image == 3 and np.array_equal(crop.image, source.photo(3)[rows, columns])
    assert np.array_equal(crop.mask, source.mask(Pair(3, 1))[rows, columns])


def test_name_of_the_object_comes_first():
    crop = crop_object(FakeLVIS(IMAGES), Pair(3, 3), 32, seed=0)
    assert crop.names == ["thing 3", "thing 1", "thing 2", "thing 4"]


def test_crops_show_the_object_and_depend_on_seed_and_object():
    source = FakeLVIS(IMAGES)
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
    """The short side becomes 35 pixels, 1.1 times the side of the crop; the aspect ratio stays."""
    source = FakeLVIS({1: {1: 0.4, 2: 0.2, 3: 0.3}}, shape)
    crop = crop_object(source, Pair(1, 1), 32, seed=0)
    assert crop.image.shape == (32, 32, 3) and crop.mask.shape == (32, 32)
    scale = 35 / min(shape)
    steps = np.diff(crop.image[..., :2].astype(float), axis=0).mean((0, 1))[0]
    assert steps == pytest.approx(1 / scale, rel=0.2)
    # the object still starts at the left edge; channel 1 contains the columns
    inside = crop.image[..., 1][crop.mask]
    assert inside.max() <= crop.image[..., 1][~crop.mask].min() + 1
