"""Test `transfer` on models with known activations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from datamodules.toy.pretraining.pictures import normalised, stacked
from datamodules.toy.scenes.grammar import SLOTS
from datamodules.toy.scenes.kinds import KINDS, VARIANTS
from datamodules.toy.scenes.scene import draw_scene
from datamodules.toy.zero_shot import transfer

PATCH, CHANNELS = 8, 48
VALUES = [value for values in SLOTS.values() for value in values]


def one_hot(values, among):
    return torch.tensor([float(value in values) for value in among])


PARTS = torch.stack([one_hot(next(iter(VARIANTS[k].values())).parts, VALUES) for k in KINDS])
"""(160, 46) which parts each kind has; a person's are those of a man"""


@pytest.fixture(scope="module")
def scenes():
    return [
        draw_scene(np.random.default_rng(seed), 64, count=3, lengths=(0.35, 0.7))
        for seed in range(300)
    ]


@pytest.fixture(scope="module")
def names():
    """Embeddings of names that are a linear function of the parts of the kinds."""
    mixed = PARTS @ torch.randn(len(VALUES), CHANNELS, generator=torch.Generator().manual_seed(0))
    return normalize(mixed, dim=-1)


class Visual:
    """Image encoder of 12 blocks whose patches have the features of the thing that they show."""

    def __init__(self, scenes, features):
        self.conv1 = SimpleNamespace(stride=(PATCH, PATCH))
        self.transformer = SimpleNamespace(resblocks=range(12))
        self.ln_post, self.proj = torch.nn.Identity(), torch.eye(features.shape[1], CHANNELS)
        images = normalised(stacked([scene.image for scene in scenes]))
        self.of_image = {
            image.numpy().tobytes(): self.tokens(scene, features)
            for image, scene in zip(images, scenes, strict=True)
        }

    def tokens(self, scene, features):
        kinds = np.full(scene.image.shape[:2], -1)
        for thing in scene.things:
            kinds[thing.mask] = KINDS.index(thing.kind)
        rows = []
        for y in range(0, 64, PATCH):
            for x in range(0, 64, PATCH):
                found, counts = np.unique(kinds[y : y + PATCH, x : x + PATCH], return_counts=True)
                kind = found[counts.argmax()]
                rows.append(features[kind] if kind >= 0 else torch.zeros(features.shape[1]))
        return torch.stack(rows)

    def forward_intermediates(self, images, taps, **options):
        assert taps == [3, 7, 9] and not options.get("normalize_intermediates")
        patches = torch.stack([self.of_image[image.numpy().tobytes()] for image in images])
        return {"image_features": None, "image_intermediates": [patches] * len(taps)}


def measured(scenes, names, features):
    """Return the figures of a model whose patches have `features[kind]`."""
    model = SimpleNamespace(visual=Visual(scenes, features), logit_scale=torch.ones(()))
    return transfer(model, scenes, names)


def test_activations_that_show_the_parts_transfer_to_kinds_that_were_left_out(scenes, names):
    found = measured(scenes, names, PARTS @ torch.rand(len(VALUES), CHANNELS))
    assert found["fitted"] > 0.95 and found["left_out"] > 0.85
    assert found["transfer"] == pytest.approx(found["left_out"] / found["fitted"], abs=1e-3)


def test_activations_that_show_only_the_kind_do_not_transfer(scenes, names):
    found = measured(scenes, names, torch.eye(len(KINDS)))
    assert found["fitted"] > 0.9 and found["left_out"] < 0.15


def test_patch_kind_is_the_accuracy_of_the_patch_embeddings(scenes, names):
    assert measured(scenes, names, names)["patch_kind"] == 1
    shuffled = names[torch.randperm(len(names))]
    assert measured(scenes, names, shuffled)["patch_kind"] < 0.15
