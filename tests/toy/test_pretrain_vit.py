"""Pre-training of the toy ViT, and the accuracy of the shipped one."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.vit_backbone import ViTBackbone
from clipseg_pl.weights.places import find_file
from datamodules.toy.pretraining.loop import ViTSettings
from datamodules.toy.pretraining.pictures import held_out, normalised, single_things
from datamodules.toy.pretraining.vit import LabelledThings, ViTPretraining
from datamodules.toy.scenes.kinds import KINDS

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


@pytest.fixture
def settings(tmp_path):
    return ViTSettings(
        tmp_path / "whole",
        steps=3,
        batch_size=8,
        workers=0,
        every=2,
        singles=16,
        architecture=TINY,
    )


def test_resumed_run_equals_an_uninterrupted_one(settings, tmp_path):
    whole = ViTPretraining(settings)
    whole.fit()
    parts = replace(settings, out=tmp_path / "parts")
    ViTPretraining(parts).fit(until=2)
    resumed = ViTPretraining(parts, resume=True)
    assert resumed.step == 2
    resumed.fit()
    for one, other in ((whole.model, resumed.model), (whole.average, resumed.average)):
        for key, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[key]), key


def test_batches_depend_only_on_seed_and_step():
    first, second, other = (LabelledThings(seed, 8, 64) for seed in (0, 0, 1))
    for images, kinds in (first[4], second[4]):
        assert images.shape == (8, 3, 64, 64) and images.dtype == torch.uint8
        assert kinds.shape == (8,) and 0 <= kinds.min() and kinds.max() < len(KINDS)
    assert all(torch.equal(a, b) for a, b in zip(first[4], second[4], strict=True))
    assert not torch.equal(first[4][0], first[5][0])
    assert not torch.equal(first[4][0], other[4][0])


def test_export_is_the_averaged_vit_with_a_rescaled_stream(settings):
    run = ViTPretraining(settings)
    run.fit()
    folder = settings.out / "export"
    model = VisionTransformer(**json.loads((folder / "toy2_vit.json").read_text())).eval()
    weights = load_file(folder / "toy2_vit.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    model.load_state_dict(weights)
    images = normalised(run.pictures)
    with torch.no_grad():
        own, exported = run.average.forward_features(images), model.forward_features(images)
        assert torch.allclose(own, exported, atol=0.05 * own.std().item())
        stream = model.forward_intermediates(images, [1], intermediates_only=True)[0]
    assert 1.3 < stream.std() < 3
    lines = [json.loads(line) for line in (folder / "toy2_vit_log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3] and {"loss", "kind"} <= set(lines[0])


@pytest.mark.slow
@torch.no_grad()
def test_shipped_vit_classifies_kinds_and_has_the_intended_scale():
    pictures, things = single_things(held_out(1), 64, 200)
    backbone = ViTBackbone("toy2")
    classifier = load_file(find_file("toy2_vit"))
    cls = backbone.vit.forward_features(backbone.normalise(pictures))[:, 0]
    logits = cls @ classifier["head.weight"].float().T + classifier["head.bias"].float()
    kinds = torch.tensor([KINDS.index(thing.kind) for thing in things])
    assert (logits.argmax(1) == kinds).float().mean() > 0.8
    assert 1.3 < backbone.activations(pictures, [4])[0].std() < 3
    texts = ["a red dog", "grass"]
    assert torch.equal(backbone.embed_text(texts), CLIPBackbone("toy2").embed_text(texts))
