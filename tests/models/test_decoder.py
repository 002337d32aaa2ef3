"""The FiLM decoder: size, tapped layers, heads, formula and prompts."""

from dataclasses import replace

import pytest
import torch

from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder, default_layers, refined_head, simple_head

VIT_B16 = BackboneShape(width=768, embed_dim=512, patch_size=16, depth=12)
VIT_B32 = BackboneShape(width=768, embed_dim=512, patch_size=32, depth=12)
SMALL = BackboneShape(width=12, embed_dim=10, patch_size=4, depth=12)


def small_decoder(**changes) -> FiLMDecoder:
    return FiLMDecoder(SMALL, **{"dim": 8, "heads": 2, "feedforward": 16, **changes}).eval()


def activations(images: int, layers: int = 3, tokens: int = 7) -> list[torch.Tensor]:
    return [torch.randn(images, tokens, SMALL.width) for _ in range(layers)]


# ---- sizes


@pytest.mark.parametrize(
    ("shape", "changes", "expected"),
    [
        (VIT_B32, {}, 1_122_305),  # the paper's number
        (VIT_B16, {}, 1_073_153),
        (VIT_B16, {"head": "refined"}, 1_127_009),
        (VIT_B16, {"dim": 16}, 263_681),
        (VIT_B16, {"dim": 128}, 2_238_465),
        (VIT_B16, {"layers": [3]}, 412_417),
    ],
)
def test_parameter_counts(shape, changes, expected):
    assert sum(p.numel() for p in FiLMDecoder(shape, **changes).parameters()) == expected


def test_defaults_are_the_papers():
    decoder = FiLMDecoder(VIT_B16)
    assert decoder.layers == (9, 7, 3)
    for block in decoder.blocks:
        assert block.dropout.p == block.self_attn.dropout == 0.1
        assert not block.norm_first and block.self_attn.num_heads == 4


@pytest.mark.parametrize(("embed_dim", "feedforward"), [(64, 256), (512, 2048), (768, 2048)])
def test_default_mlp_is_the_papers_except_for_small_embeddings(embed_dim, feedforward):
    decoder = FiLMDecoder(replace(VIT_B16, embed_dim=embed_dim))
    assert {block.linear1.out_features for block in decoder.blocks} == {feedforward}
    assert decoder.settings["feedforward"] == feedforward


@pytest.mark.parametrize("setting", [{"head": "fancy"}, {"dim": 0}, {"heads": -1}])
def test_invalid_settings_are_rejected(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        FiLMDecoder(VIT_B16, **setting)


@pytest.mark.parametrize("layers", [[], [3, 3], [12], [-1], [3, 99]])
def test_missing_and_duplicate_layers_are_rejected(layers):
    with pytest.raises(ValueError, match=r"0 to 11"):
        FiLMDecoder(VIT_B16, layers=layers)


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (3, (0, 1, 2)),
        (4, (1, 2, 3)),
        (6, (1, 3, 4)),
        (12, (3, 7, 9)),  # the paper's
        (24, (7, 15, 19)),  # after 4, 8 and 10 twelfths
        (32, (10, 21, 26)),
        (40, (13, 26, 33)),
        (48, (15, 31, 39)),
    ],
)
def test_default_layers_scale_with_depth(depth, expected):
    assert default_layers(replace(VIT_B16, depth=depth)) == expected
    assert FiLMDecoder(replace(SMALL, depth=depth), dim=8).layers == expected[::-1]


@pytest.mark.parametrize("depth", range(3, 100))
def test_default_layers_are_distinct_and_rounded_up(depth):
    layers = default_layers(replace(VIT_B16, depth=depth))
    assert len(set(layers)) == 3 and layers == tuple(sorted(layers)) and layers[-1] < depth
    for layer, twelfths in zip(layers, (4, 8, 10), strict=True):
        assert layer * 12 < twelfths * depth <= (layer + 1) * 12


@pytest.mark.parametrize("depth", [1, 2])
def test_fewer_than_three_blocks_need_explicit_layers(depth):
    shape = replace(SMALL, depth=depth)
    with pytest.raises(ValueError, match=rf"0 to {depth - 1}\. Set the layers of the decoder"):
        FiLMDecoder(shape, dim=8)
    assert FiLMDecoder(shape, dim=8, layers=[depth - 1]).layers == (depth - 1,)


def test_checkpoint_of_other_layers_is_rejected():
    decoder = small_decoder(layers=[9, 3])
    decoder.check_layers([3, 9])
    decoder.check_layers(None)  # a file that does not store them
    with pytest.raises(ValueError, match=r"taps layers \[3, 8\], but .* taps layers \[3, 9\]"):
        decoder.check_layers([3, 8])


def test_order_of_layers_does_not_matter():
    one, other = small_decoder(layers=[3, 7, 9]), small_decoder(layers=[9, 3, 7])
    other.load_state_dict(one.state_dict())
    assert one.layers == other.layers
    tokens, vector, index = activations(1), torch.randn(1, 10), torch.zeros(1, dtype=torch.long)
    assert torch.equal(
        one(one.project(tokens), vector, index, (2, 3)),
        other(other.project(tokens), vector, index, (2, 3)),
    )


# ---- heads


@pytest.mark.parametrize("build", [simple_head, refined_head])
@pytest.mark.parametrize("patch", [1, 7, 8, 13, 14, 16, 32])
def test_heads_cover_every_patch_size(build, patch):
    """A token changes every pixel of its patch; with the simple head, it changes no other."""
    head = build(4, patch)
    tokens = torch.randn(1, 4, 3, 5, requires_grad=True)
    logits = head(tokens)
    assert logits.shape == (1, 1, 3 * patch, 5 * patch)
    for parameter in head.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1)  # no cancellation, all ReLUs are active
    changed = tokens.detach().abs()
    changed[..., 1, 2] += 1
    moved = (head(changed) - head(tokens.detach().abs()))[0, 0] != 0
    own = torch.zeros_like(moved)
    own[patch : 2 * patch, 2 * patch : 3 * patch] = True
    assert moved[own].all()
    if build is simple_head:
        assert not moved[~own].any()


def test_refined_head_has_the_published_strides_at_patch_16():
    kernels = [layer.kernel_size for layer in refined_head(64, 16)[2::2]]
    assert kernels == [(4, 4), (4, 4)]


# ---- formula


def test_film_scales_by_scale_and_not_by_one_plus_scale():
    decoder = small_decoder(layers=[3])
    with torch.no_grad():
        decoder.film_scale.weight.zero_()
        decoder.film_scale.bias.zero_()
    tokens, index = activations(2, 1), torch.tensor([0, 1])
    logits = decoder(decoder.project(tokens), torch.randn(1, 10).expand(2, -1), index, (2, 3))
    torch.testing.assert_close(logits[0], logits[1])  # a scale of zero removes the image


def test_decoder_equals_its_formula():
    decoder = small_decoder(layers=[3, 7])
    deep, early = activations(1, 2)
    vector = torch.randn(1, 10)
    linear = torch.nn.functional.linear
    scale = linear(vector, decoder.film_scale.weight, decoder.film_scale.bias)
    shift = linear(vector, decoder.film_shift.weight, decoder.film_shift.bias)
    tokens = decoder.blocks[0](scale * decoder.projections[0](deep) + shift)
    tokens = decoder.blocks[1](tokens + decoder.projections[1](early))
    patches = tokens[:, 1:].reshape(1, 2, 3, 8).permute(0, 3, 1, 2)  # rows first, CLS dropped
    logits = decoder(decoder.project([deep, early]), vector, torch.tensor([0]), (2, 3))
    torch.testing.assert_close(logits, decoder.head(patches))


# ---- many prompts


def test_many_prompts_equal_a_loop():
    decoder = small_decoder()
    projected = decoder.project(activations(3))
    vectors, index = torch.randn(7, 10), torch.tensor([2, 0, 0, 1, 2, 2, 0])
    together = decoder(projected, vectors, index, (2, 3))
    assert together.shape == (7, 1, 8, 12)
    for position, image in enumerate(index.tolist()):
        own = [tokens[image : image + 1] for tokens in projected]
        single = decoder(own, vectors[position : position + 1], torch.tensor([0]), (2, 3))
        torch.testing.assert_close(together[position], single[0], rtol=1e-5, atol=1e-5)


def test_permuted_prompts_give_permuted_masks():
    decoder = small_decoder()
    projected = decoder.project(activations(2))
    vectors, index, order = torch.randn(5, 10), torch.tensor([0, 0, 1, 1, 0]), torch.randperm(5)
    logits = decoder(projected, vectors, index, (2, 3))
    permuted = decoder(projected, vectors[order], index[order], (2, 3))
    torch.testing.assert_close(permuted, logits[order], rtol=1e-5, atol=1e-5)
    assert len({mask.sum().item() for mask in logits}) == 5


def test_no_prompts_give_no_masks():
    decoder = small_decoder()
    none = torch.zeros(0, dtype=torch.long)
    logits = decoder(decoder.project(activations(2)), torch.zeros(0, 10), none, (2, 3))
    assert logits.shape == (0, 1, 8, 12)


# ---- the full model


@pytest.fixture
def model() -> CLIPSeg:
    return CLIPSeg(CLIPBackbone(name="tiny", pretrained=False), FiLMDecoder).eval()


def test_masks_have_the_size_of_rectangular_images(model):
    images = torch.randint(0, 256, (2, 3, 48, 80), dtype=torch.uint8)
    logits = model(images, torch.randn(3, 32), torch.tensor([0, 1, 1]))
    assert logits.shape == (3, 1, 48, 80)


def test_only_the_decoder_gets_gradients(model):
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    vectors = model.backbone.embed_text(["a dog", "grass"])
    model.train()(images, vectors, torch.tensor([0, 1])).square().mean().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {f"decoder.{name}" for name, _ in model.decoder.named_parameters()}


def conditional(model, texts, supports, owners, weights) -> torch.Tensor:
    return model.conditional(texts, supports, torch.tensor(owners).long(), torch.tensor(weights))


def test_conditional_vectors_blend_text_with_the_mean_of_supports(model):
    supports = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    text = model.backbone.embed_text(["a dog", "grass", "a cat"])
    image = model.backbone.embed_image(supports)
    blend = conditional(model, ["a dog", "grass", "a cat"], supports, [2, 0, 2], [0.25, 1.0, 0.0])
    torch.testing.assert_close(blend[0], 0.25 * text[0] + 0.75 * image[1])
    torch.testing.assert_close(blend[1], text[1])
    torch.testing.assert_close(blend[2], (image[0] + image[2]) / 2)


def test_conditional_vectors_of_texts_only(model):
    none = torch.zeros(0, 3, 64, 64, dtype=torch.uint8)
    vectors = conditional(model, ["a dog", "grass"], none, [], [1.0, 1.0])
    assert torch.equal(vectors, model.backbone.embed_text(["a dog", "grass"]))
