"""The decoder of CLIP-Deconv: size, formula and independence of patches."""

from dataclasses import replace

import pytest
import torch

from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.deconv_decoder import DeconvDecoder

VIT_B16 = BackboneShape(width=768, embed_dim=512, patch_size=16, depth=12)
SMALL = BackboneShape(width=12, embed_dim=10, patch_size=4, depth=12)


@pytest.fixture
def decoder() -> DeconvDecoder:
    return DeconvDecoder(SMALL, dim=8, hidden=6)


def test_parameter_count():
    decoder = DeconvDecoder(VIT_B16)
    assert sum(p.numel() for p in decoder.parameters() if p.requires_grad) == 139_585
    assert decoder.layers == (9,)


@pytest.mark.parametrize(("depth", "layer"), [(1, 0), (4, 3), (24, 19), (32, 26)])
def test_default_layer_scales_with_depth(depth, layer):
    assert DeconvDecoder(replace(SMALL, depth=depth)).layers == (layer,)


@pytest.mark.parametrize("layer", [-1, 12])
def test_missing_layer_is_rejected(layer):
    with pytest.raises(ValueError, match=r"0 to 11"):
        DeconvDecoder(VIT_B16, layer=layer)


@torch.no_grad()
def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    decoder = DeconvDecoder(SMALL, dim=8, hidden=6, dropout=0.5)
    tokens, vectors, index = torch.randn(1, 1 + 4, 12), torch.randn(1, 10), torch.tensor([0])

    def logits() -> torch.Tensor:
        return decoder(decoder.project([tokens]), vectors, index, (2, 2))

    assert not torch.equal(logits(), logits())
    decoder.eval()
    assert torch.equal(logits(), logits())


@torch.no_grad()
def test_decoder_equals_its_formula_patch_by_patch(decoder):
    """Uses more prompts than images and a rectangular grid."""
    tokens, vectors = torch.randn(2, 1 + 6, 12), torch.randn(5, 10)
    index, (height, width) = torch.tensor([1, 0, 0, 1, 1]), (2, 3)
    logits = decoder(decoder.project([tokens]), vectors, index, (height, width))
    assert logits.shape == (5, 1, 8, 12)
    state = decoder.state_dict()
    kernel = state["head.weight"][:, 0]  # D 4 4
    for prompt, vector in enumerate(vectors):
        scale = state["film_scale.weight"] @ vector + state["film_scale.bias"]
        shift = state["film_shift.weight"] @ vector + state["film_shift.bias"]
        for row in range(height):
            for column in range(width):
                token = tokens[index[prompt], 1 + row * width + column]
                token = state["projection.weight"] @ token + state["projection.bias"]
                token = scale * token + shift
                token = (state["mlp.0.weight"] @ token + state["mlp.0.bias"]).clamp(min=0)
                token = state["mlp.2.weight"] @ token + state["mlp.2.bias"]
                expected = torch.einsum("d,dyx->yx", token, kernel) + state["head.bias"]
                actual = logits[prompt, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_token_changes_its_own_patch_only(decoder):
    tokens, vector, index = torch.randn(1, 1 + 6, 12), torch.randn(1, 10), torch.tensor([0])
    changed = tokens.clone()
    changed[0, [0, 1 + 4]] += 1  # the CLS token, and the patch in row 1, column 1
    before, after = (
        decoder(decoder.project([t]), vector, index, (2, 3)) for t in (tokens, changed)
    )
    moved = (before != after)[0, 0]
    assert moved[4:8, 4:8].any()
    moved[4:8, 4:8] = False
    assert not moved.any()


def test_no_prompts_give_no_masks(decoder):
    none = torch.zeros(0, dtype=torch.long)
    logits = decoder(decoder.project([torch.randn(2, 7, 12)]), torch.zeros(0, 10), none, (2, 3))
    assert logits.shape == (0, 1, 8, 12)


def test_masks_depend_on_blocks_up_to_the_tapped_layer():
    model = CLIPSeg(CLIPBackbone("tiny", pretrained=False), DeconvDecoder)
    images = torch.randint(0, 256, (2, 3, 48, 80), dtype=torch.uint8)
    vectors, index = model.backbone.embed_text(["a dog", "grass", "sky"]), torch.tensor([0, 1, 1])
    before = model(images, vectors, index)
    assert before.shape == (3, 1, 48, 80)
    blocks = model.backbone.clip.visual.transformer.resblocks
    with torch.no_grad():
        blocks[10].mlp.c_proj.weight.normal_()
        assert torch.equal(model(images, vectors, index), before)
        blocks[9].mlp.c_proj.weight.normal_()
        assert not torch.equal(model(images, vectors, index), before)
    before.square().mean().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {f"decoder.{name}" for name, _ in model.decoder.named_parameters()}
