import numpy as np
import pytest

from datamodules.toy.scenes.kinds import KINDS, PASCAL_KINDS, VARIANTS
from datamodules.toy.scenes.paint import COLOURS
from datamodules.toy.scenes.scene import draw_scene
from datamodules.toy.scenes.stuff import STUFF


@pytest.mark.parametrize("size", [64, (48, 80)])
def test_equal_generators_draw_equal_scenes(size):
    first, second, other = (draw_scene(np.random.default_rng(seed), size) for seed in (3, 3, 4))
    assert np.array_equal(first.image, second.image)
    assert [thing.kind for thing in first.things] == [thing.kind for thing in second.things]
    assert not np.array_equal(first.image, other.image)


def test_global_random_state_is_neither_used_nor_changed():
    np.random.seed(0)
    before = draw_scene(np.random.default_rng(5), 64).image
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    assert np.array_equal(before, draw_scene(np.random.default_rng(5), 64).image)
    assert np.array_equal(state, np.random.get_state()[1])


def test_masks_partition_the_image():
    for seed in range(40):
        scene = draw_scene(np.random.default_rng(seed), (56, 72))
        masks = [thing.mask for thing in scene.things] + list(scene.stuff.values())
        assert scene.image.shape == (56, 72, 3)
        assert np.array_equal(np.sum(masks, 0), np.ones((56, 72)))
        assert all(mask.any() for mask in masks)
        assert set(scene.stuff) <= set(STUFF)


def test_mask_covers_the_pixels_changed_by_the_thing():
    """Compare a scene with one thing to the same scene without the thing."""
    for seed in range(20):
        empty = draw_scene(np.random.default_rng(seed), 64, count=0)
        one = draw_scene(np.random.default_rng(seed), 64, count=1)
        (thing,) = one.things
        changed = np.abs(one.image.astype(int) - empty.image).max(2) > 24
        assert (changed & thing.mask).sum() > 0.6 * thing.mask.sum()
        grown = np.zeros_like(changed)
        for y in (-1, 0, 1):
            for x in (-1, 0, 1):
                grown |= np.roll(thing.mask, (y, x), (0, 1))
        assert (changed & ~grown).sum() <= 0.05 * thing.mask.sum()


def test_boxes_bound_the_visible_part():
    for seed in range(20):
        for thing in draw_scene(np.random.default_rng(seed), 64).things:
            x, y, width, height = thing.box
            assert thing.mask[y : y + height, x : x + width].sum() == thing.mask.sum()
            assert thing.mask[:, x].any() and thing.mask[:, x + width - 1].any()
            assert thing.mask[y].any() and thing.mask[y + height - 1].any()


def test_scenes_have_one_to_six_things_and_three_on_average():
    counts = [len(draw_scene(np.random.default_rng(seed), 64).things) for seed in range(300)]
    assert set(counts) == {1, 2, 3, 4, 5, 6}
    assert 2.7 < np.mean(counts) < 3.4


def test_a_third_of_the_things_are_of_pascals_kinds_and_all_have_the_parts_of_their_kind():
    things = [
        thing for seed in range(300) for thing in draw_scene(np.random.default_rng(seed), 64).things
    ]
    assert 0.3 < np.mean([thing.kind in PASCAL_KINDS for thing in things]) < 0.4
    assert len({thing.kind for thing in things}) > 150
    assert all(thing.parts == VARIANTS[thing.kind][thing.variant].parts for thing in things)


@pytest.mark.parametrize("size", [31, (64, 31), (31, 64), 0])
def test_draw_scene_rejects_small_sizes(size):
    with pytest.raises(ValueError, match="at least 32"):
        draw_scene(np.random.default_rng(0), size)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_drawn_in_the_given_colour(kind):
    drawn = (
        draw_scene(
            np.random.default_rng(seed), 96, count=1, kinds=[kind], colours=["red"],
            lengths=(0.7, 0.7),
        )
        for seed in range(20)
    )  # fmt: skip
    scene = next(scene for scene in drawn if scene.things[0].texture == "plain")
    (thing,) = scene.things
    distance = np.abs(scene.image[thing.mask].astype(int) - COLOURS["red"]).max(1)
    assert thing.kind == kind and thing.mask.mean() > 0.03
    assert (distance < 45).mean() > 0.08
