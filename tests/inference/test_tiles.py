"""Tiles of large photos."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clipseg_pl.inference.tiles import OVERLAP, Window, merge, resize, views


@pytest.mark.parametrize("side", [None, 300, 1000])
def test_photo_no_larger_than_a_tile_has_one_window(side):
    assert views(200, 300, side) == [Window(0, 0, 200, 300)]


@pytest.mark.parametrize("size", [(3000, 4000), (200, 1000), (101, 100), (1, 500), (333, 777)])
def test_tiles_cover_the_photo_and_overlap(size):
    side = 100
    whole, *tiles = views(*size, side)
    assert whole == (0, 0, *size)
    seen = np.zeros(size, int)
    for tile in tiles:
        assert (tile.height, tile.width) == (min(side, size[0]), min(side, size[1]))
        assert seen[tile.slices].shape == tile[2:]  # inside the photo
        seen[tile.slices] += 1
    assert seen.all()
    for axis, place in enumerate(("top", "left")):
        starts = np.unique([getattr(tile, place) for tile in tiles])
        assert (np.diff(starts) <= side * (1 - OVERLAP) + 1).all()
        assert len(starts) <= np.ceil(
            size[axis] / (side * (1 - OVERLAP))
        )  # no more tiles than needed


def test_merge_keeps_a_constant_map():
    _, *tiles = views(70, 90, 40)
    answers = [(tile, torch.full((2, 1, 8, 8), 0.3)) for tile in tiles]
    merged = merge(torch.full((2, 1, 5, 7), 0.3), answers, (70, 90))
    assert merged.shape == (2, 70, 90)
    assert torch.allclose(merged, torch.tensor(0.3))


def test_merge_weights_the_whole_by_half_and_tiles_by_edge_distance():
    tiles = [
        (Window(0, 0, 4, 8), torch.zeros(1, 1, 4, 8)),
        (Window(0, 4, 4, 8), torch.ones(1, 1, 4, 8)),
    ]
    merged = merge(torch.full((1, 1, 4, 12), 0.5), tiles, (4, 12))[0]
    alone_left, alone_right = merged[:, :4], merged[:, 8:]
    assert torch.allclose(alone_left, torch.tensor(0.25))
    assert torch.allclose(alone_right, torch.tensor(0.75))
    # weights rise over a quarter of 8 pixels: 0.25, 0.75 from the edge, then 1
    right = torch.tensor([0.25, 0.75, 1, 1])
    left = right.flip(0)
    assert torch.allclose(merged[0, 4:8], (0.5 + right / (left + right)) / 2)


def test_merge_leaves_no_seams_in_a_smooth_map():
    ramp = torch.linspace(0, 1, 200).repeat(160, 1)
    _, *tiles = views(160, 200, 60)
    answers = [(tile, ramp[tile.slices][None, None]) for tile in tiles]
    merged = merge(ramp[None, None], answers, (160, 200))[0]
    assert torch.allclose(merged, ramp, atol=1e-6)


def test_resize_is_bilinear_up_and_averages_down():
    small = torch.rand(2, 1, 5, 6)
    plain = F.interpolate(small, (20, 30), mode="bilinear", align_corners=False)
    assert torch.allclose(resize(small, (20, 30)), plain, atol=1e-6)
    stripes = torch.tensor([0.0, 1.0]).repeat(1, 1, 64, 32)
    assert (resize(stripes, (16, 16)) - 0.5).abs().max() < 0.1
    assert resize(small.bfloat16(), (9, 9)).dtype == torch.float32
