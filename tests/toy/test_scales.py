"""Scales of the toy encoders, and the layers at which they are measured."""

from dataclasses import replace

import pytest

from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.decoder import default_layers
from datamodules.toy.scenes.scales import factor_to, tapped_layers

SHAPE = BackboneShape(width=96, embed_dim=64, patch_size=8, depth=12)


@pytest.mark.parametrize("depth", range(3, 49))
def test_tapped_layers_are_those_of_the_decoder(depth):
    assert tapped_layers(depth) == list(default_layers(replace(SHAPE, depth=depth)))


@pytest.mark.parametrize(
    ("wanted", "present", "factor"),
    [
        (2, 1, 2),
        (2, 1.5, 1),  # 1.33 is closer to 1 than to 2
        (10, 1.2, 8),  # 8.33
        (1, 3, 0.25),  # 0.33: half of it is 0.17, twice 0.67
        (1, 1, 1),
    ],
)
def test_factor_is_the_closest_power_of_two(wanted, present, factor):
    assert factor_to(wanted, present) == factor
