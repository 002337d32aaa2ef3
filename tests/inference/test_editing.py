"""Edited masks, compared with hand-computed cases and SciPy's distance transform."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from scipy.ndimage import distance_transform_edt

from clipseg_pl.inference.editing import Edits, check_form, edit_masks, feather, grow
from clipseg_pl.inference.segmentation import Segmentation

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=24))
DISTANCES = st.one_of(st.integers(1, 12), st.floats(0.5, 12))


def mask_of(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def segmentation(*probabilities, presence=None, absent_cut=0.0):
    scores = np.float32(presence or [1] * len(probabilities))
    names = [f"p{number}" for number in range(len(probabilities))]
    return Segmentation(names, np.float32(probabilities), scores, 0.5, absent_cut)


def test_grown_pixel_is_a_disc():
    mask = mask_of(".......", ".......", ".......", "...#...", ".......", ".......", ".......")
    disc = mask_of(".......", "...#...", "..###..", ".#####.", "..###..", "...#...", ".......")
    assert (grow(mask, 2) == disc).all()
    assert (grow(disc, -2) == mask).all()


@given(MASKS, DISTANCES)
def test_grown_mask_has_the_pixels_within_the_distance(mask, pixels):
    if mask.any():
        assert (grow(mask, pixels) == (distance_transform_edt(~mask) <= pixels)).all()
    else:
        assert not grow(mask, pixels).any()


@given(MASKS, DISTANCES)
def test_shrunk_mask_is_farther_than_the_distance_from_the_background(mask, pixels):
    if mask.all():
        assert grow(mask, -pixels).all()
    else:
        assert (grow(mask, -pixels) == (distance_transform_edt(mask) > pixels)).all()
    assert (grow(mask, -pixels) == ~grow(~mask, pixels)).all()


@pytest.mark.parametrize("shape", [(480, 641), (481, 640)])
def test_long_distances_are_exact(shape):
    mask = np.zeros(shape, bool)
    mask[17, 23] = True
    rows, columns = np.indices(shape)
    assert (grow(mask, 325) == ((rows - 17) ** 2 + (columns - 23) ** 2 <= 325**2)).all()


def test_shrinking_starts_at_the_background_and_not_at_the_border_of_the_photo():
    mask = mask_of("####...", "####...", "####...")
    assert (grow(mask, -2) == mask_of("##.....", "##.....", "##.....")).all()
    assert (grow(~mask, -2) == mask_of("......#", "......#", "......#")).all()


@given(arrays(bool, (9, 10)), st.integers(-4, 4), st.integers(0, 8), st.integers(0, 9), st.data())
def test_edits_are_translation_equivariant(mask, pixels, down, right, data):
    edits = Edits(grow=pixels, feather=data.draw(st.sampled_from([0, 1, 2.5])))

    def placed(top, left):
        canvas = np.zeros((1, 40, 43), bool)
        canvas[0, top : top + 9, left : left + 10] = mask
        edited = edit_masks(canvas, canvas[:0], edits)[0]
        return feather(edited, edits.feather)

    reference = placed(11, 12)
    assert (np.roll(reference, (down, right), (0, 1)) == placed(11 + down, 12 + right)).all()


@given(MASKS, st.integers(-4, 4), st.sampled_from([0, 1, 2.5]))
def test_edits_commute_with_flips_and_transposition(mask, pixels, width):
    for turn in (np.fliplr, np.flipud, np.transpose):
        assert (grow(turn(mask), pixels) == turn(grow(mask, pixels))).all()
        assert (feather(turn(mask), width) == turn(feather(mask, width))).all()


@pytest.mark.parametrize("edits", [Edits(grow=5), Edits(grow=-5), Edits(feather=6)])
@pytest.mark.parametrize("side", [24, 25])
def test_centroid_stays(edits, side):
    mask = np.zeros((1, 70, 81), bool)
    mask[0, 20 : 20 + side, 30 : 30 + side] = True
    edited = feather(edit_masks(mask, mask[:0], edits)[0], edits.feather)
    rows, columns = np.indices(edited.shape)
    centre = np.array([(edited * rows).sum(), (edited * columns).sum()]) / edited.sum()
    assert np.allclose(centre, [20 + (side - 1) / 2, 30 + (side - 1) / 2])


def test_feathered_edge_is_a_linear_ramp():
    row = mask_of("....####")
    # -2, -1.5, -0.5, 0.5, 1.5 and 2 pixels from the edge are 0, 1/8, 3/8, 5/8, 7/8 and 1
    assert feather(row, 2).tolist() == [[0, 0, 32, 96, 159, 223, 255, 255]]
    assert feather(row, 0).tolist() == feather(row, 0.5).tolist() == [[0] * 4 + [255] * 4]


@given(MASKS, DISTANCES)
def test_feathering_keeps_the_edge_at_half_and_is_symmetric(mask, pixels):
    soft = feather(mask, pixels)
    assert ((soft >= 128) == mask).all()
    assert (np.abs(soft.astype(int) + feather(~mask, pixels) - 255) <= 1).all()


@given(MASKS, DISTANCES)
def test_feathering_changes_only_pixels_near_the_edge(mask, pixels):
    soft = feather(mask, pixels)
    assert (soft[grow(mask, -pixels - 0.5)] == 255).all()
    assert not soft[~grow(mask, pixels + 0.5)].any()


def test_edits_apply_in_the_documented_order():
    rng = np.random.default_rng(0)
    masks, minus = rng.random((2, 30, 41)) > 0.9, rng.random((3, 30, 41)) > 0.95
    union = masks[0] | masks[1]
    taken = minus[0] | minus[1] | minus[2]
    (edited,) = edit_masks(masks, minus, Edits(union=True, grow=2, invert=True, feather=3))
    assert (edited == ~(grow(union, 2) & ~taken)).all()
    separate = edit_masks(masks, minus, Edits(grow=2))
    assert len(separate) == 2
    assert (separate[1] == (grow(masks[1], 2) & ~taken)).all()
    assert (grow(masks[1], 2) & taken).any()  # the mask would have grown into what minus removes


def test_union_is_shrunk_as_one_shape():
    masks = np.stack([mask_of("###....", "###...."), mask_of("...##..", "...##..")])
    (edited,) = edit_masks(masks, masks[:0], Edits(union=True, grow=-1))
    assert (edited == mask_of("####...", "####...")).all()


def test_result_is_edited_at_the_size_of_the_photo():
    result = segmentation([[0.9, 0.2, 0.6]], [[0.1, 0.7, 0.8]])
    other = segmentation([[0.0, 0.9, 0.4]])
    assert result.edit().tolist() == [[[255, 0, 255]], [[0, 255, 255]]]
    assert result.edit(Edits(union=True)).tolist() == [[[255, 255, 255]]]
    assert result.edit(minus=other).tolist() == [[[255, 0, 255]], [[0, 0, 255]]]
    assert result.edit(Edits(invert=True), other).tolist() == [[[0, 255, 0]], [[255, 255, 0]]]
    assert result.edit().dtype == np.uint8


def test_soft_result_is_probability_times_255():
    result = segmentation([[0.0, 0.2, 1.0]], [[0.4, 0.8, 0.6]])
    other = segmentation([[0.0, 0.4, 0.8]], [[0.0, 0.2, 0.2]])
    assert result.soft().tolist() == [[[0, 51, 255]], [[102, 204, 153]]]
    assert result.soft(Edits(union=True)).tolist() == [[[102, 204, 255]]]
    assert result.soft(minus=other).tolist() == [[[0, 51, 51]], [[102, 153, 51]]]
    assert result.soft(Edits(invert=True)).tolist() == [[[255, 204, 0]], [[153, 51, 102]]]


def test_absent_prompts_neither_add_nor_remove_pixels():
    result = segmentation([[0.9, 0.1]], [[0.9, 0.9]], presence=[0.8, 0.3], absent_cut=0.5)
    assert result.edit(Edits(union=True)).tolist() == [[[255, 0]]]
    assert result.soft(Edits(union=True)).tolist() == [[[230, 26]]]
    plus, minus = result.split(1)
    assert (plus.edit(minus=minus) == plus.edit()).all()
    assert (plus.soft(minus=minus) == plus.soft()).all()


def test_split_separates_the_first_prompts():
    result = segmentation([[0.1]], [[0.2]], [[0.3]], presence=[0.4, 0.5, 0.6])
    first, others = result.split(1)
    assert list(first.prompts) == ["p0"] and list(others.prompts) == ["p1", "p2"]
    assert np.allclose(first.probability, [[[0.1]]]) and np.allclose(others.presence, [0.5, 0.6])
    assert first.threshold == others.threshold == result.threshold


def test_cutout_is_the_photo_with_the_mask_as_alpha():
    photo = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    result = segmentation([[0.9, 0.1, 0.1], [0.9, 0.1, 0.1]])
    (cutout,) = result.cutouts(Image.fromarray(photo), Edits(feather=1))
    assert (cutout[..., :3] == photo).all()
    assert cutout[..., 3].tolist() == [[191, 64, 0]] * 2


def test_photo_or_minus_of_another_size_is_rejected():
    result = segmentation(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="photo has 2 x 3 pixels, but its masks have 3 x 2"):
        result.cutouts(np.zeros((3, 2, 3), np.uint8))
    for edit in (result.edit, result.soft):
        with pytest.raises(ValueError, match="masks of 2 x 3 pixels instead of 3 x 2"):
            edit(minus=segmentation(np.zeros((3, 2))))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"grow": np.nan}, "grow must be a finite number of pixels, not nan"),
        ({"grow": np.inf}, "grow must be a finite number of pixels, not inf"),
        ({"feather": -1}, "feather must be at least 0 pixels, not -1"),
        ({"feather": np.nan}, "feather must be at least 0 pixels, not nan"),
    ],
)
def test_invalid_distances_are_rejected(edits, message):
    with pytest.raises(ValueError, match=message):
        Edits(**edits)


@pytest.mark.parametrize("edits", [Edits(grow=-1), Edits(feather=1)])
def test_probabilities_have_no_edge(edits):
    with pytest.raises(ValueError, match="probabilities have no edge"):
        segmentation([[0.5]]).soft(edits)


@pytest.mark.parametrize(
    ("form", "allowed"),
    [
        ("png", "minus union grow invert feather"),
        ("cutout", "minus union grow invert feather"),
        ("rle", "minus union grow invert"),
        ("soft", "minus union invert"),
        ("npy", ""),
        ("labels", ""),
    ],
)
def test_formats_reject_edits_that_they_cannot_show(form, allowed):
    for name in ("minus", "union", "grow", "invert", "feather"):
        minus, edits = name == "minus", Edits() if name == "minus" else Edits(**{name: 1})
        if name in allowed.split():
            check_form(form, edits, minus)
        else:
            with pytest.raises(ValueError, match=f"^{name} cannot be combined with "):
                check_form(form, edits, minus)
