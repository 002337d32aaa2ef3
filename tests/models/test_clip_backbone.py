"""The frozen CLIP backbone: activations, embeddings, position embeddings and text cache."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

from clipseg_pl.convert.key_map import clip_state, decoder_state
from clipseg_pl.models.clip_backbone import CLIPBackbone, resize_position_embedding
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder


@pytest.fixture
def backbone() -> CLIPBackbone:
    return CLIPBackbone(name="tiny", pretrained=False)


def photos(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


def calls_per_block(backbone: CLIPBackbone) -> list[int]:
    """Return the number of calls of each block, updated by hooks."""
    blocks = backbone.clip.visual.transformer.resblocks
    counts = [0] * len(blocks)
    for index, block in enumerate(blocks):
        block.ln_2.register_forward_hook(
            lambda *_, index=index: counts.__setitem__(index, counts[index] + 1)
        )
    return counts


def encoded_texts(backbone: CLIPBackbone) -> list[int]:
    """Return the number of texts in each forward pass of the text encoder, updated by hooks."""
    counts = []
    backbone.clip.token_embedding.register_forward_hook(
        lambda module, args, result: counts.append(int(args[0].any(1).sum()))  # without padding
    )
    return counts


# ---- frozen


def test_no_parameter_is_trainable(backbone):
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.embed_text(["a dog"]).requires_grad
    assert not backbone.embed_image(photos(1, 64, 64)).requires_grad
    assert not backbone.activations(photos(1, 64, 64), [3])[0].requires_grad


def test_backbone_stays_in_evaluation_mode(backbone):
    model = CLIPSeg(backbone, FiLMDecoder).train()
    assert model.decoder.training
    assert not any(module.training for module in backbone.modules())


# ---- images


def test_images_must_be_uint8(backbone):
    with pytest.raises(TypeError, match="uint8"):
        backbone.embed_image(photos(1, 64, 64).float() / 255)


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 3, 64, 65), (3, 64, 64), (1, 1, 64, 64)])
def test_wrong_image_shapes_are_rejected(backbone, shape):
    with pytest.raises(ValueError, match=r"multiples of 16|\(N, 3, H, W\)"):
        backbone.activations(torch.zeros(shape, dtype=torch.uint8), [3])


def test_pixels_are_normalised_with_imagenet_constants(backbone):
    image = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 16, 16)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = [(value / 255 - m) / s for value, m, s in zip((0, 128, 255), mean, std, strict=True)]
    torch.testing.assert_close(backbone.normalise(image)[0, :, 0, 0], torch.tensor(expected))


def test_activations_follow_the_order_of_the_layers(backbone):
    images = photos(2, 64, 64)
    third, ninth = backbone.activations(images, [3, 9])
    again = backbone.activations(images, [9, 3])
    assert third.shape == (2, 1 + 16, 32)
    assert torch.equal(again[0], ninth) and torch.equal(again[1], third)
    assert not torch.equal(third, ninth)


def test_blocks_after_the_deepest_tapped_layer_do_not_run(backbone):
    counts = calls_per_block(backbone)
    early = backbone.activations(photos(1, 64, 64), [7, 3])
    assert counts == [1] * 8 + [0] * 4
    backbone.embed_image(photos(1, 64, 64))
    assert counts == [2] * 8 + [1] * 4
    assert len(early) == 2


def test_early_exit_does_not_change_activations(backbone):
    images = photos(2, 64, 96)
    early, full = backbone.activations(images, [3]), backbone.activations(images, [3, 11])
    assert torch.equal(early[0], full[0])


def test_embedding_of_an_image_does_not_depend_on_its_batch(backbone):
    images = photos(3, 64, 64)
    single = backbone.embed_image(images[1:2])
    torch.testing.assert_close(backbone.embed_image(images)[1:2], single, rtol=1e-4, atol=1e-5)


# ---- rectangular images, compared with Hugging Face's encoder (its decoder needs squares)


@pytest.mark.parametrize("size", [(64, 96), (96, 64), (32, 128), (64, 64), (128, 128)])
@torch.no_grad()
def test_rectangular_images_equal_hugging_face(backbone, size):
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 128}
    vision = {**sizes, "num_hidden_layers": 12, "image_size": 64, "patch_size": 16}
    theirs = CLIPSegForImageSegmentation(
        CLIPSegConfig(
            text_config={**sizes, "num_hidden_layers": 2},
            vision_config=vision,
            projection_dim=32,
            extract_layers=[3, 7, 9],
            reduce_dim=16,
        )
    ).eval()
    theirs.clip.vision_model.embeddings.position_embedding.weight.normal_()
    backbone.clip.load_state_dict(clip_state(theirs.state_dict()))
    ours = CLIPSeg(backbone, lambda shape: FiLMDecoder(shape, dim=16, feedforward=2048)).eval()
    ours.decoder.load_state_dict(decoder_state(theirs.state_dict()))
    images, vector = photos(1, *size), torch.randn(1, 32)

    states = theirs.clip.vision_model(
        backbone.normalise(images), output_hidden_states=True, interpolate_pos_encoding=True
    ).hidden_states
    for layer, tokens in zip((3, 7, 9), backbone.activations(images, (3, 7, 9)), strict=True):
        torch.testing.assert_close(tokens, states[layer + 1], rtol=1e-5, atol=1e-5)

    if size in ((32, 128), (64, 64)):  # 16 patches, which their decoder arranges as 4 x 4
        logits = ours(images, vector, torch.zeros(1, dtype=torch.long))
        grid = size[0] // 16, size[1] // 16
        squared = theirs(pixel_values=backbone.normalise(images), conditional_embeddings=vector)
        tiles = squared.logits.view(4, 16, 4, 16).transpose(1, 2).reshape(*grid, 16, 16)
        laid_out = tiles.transpose(1, 2).reshape(1, 1, *size)
        torch.testing.assert_close(logits, laid_out, rtol=1e-4, atol=1e-4)


def test_position_resize_equals_torchs_bicubic_without_antialiasing():
    embedding = torch.randn(1 + 49, 8)
    square = embedding[1:].T.reshape(1, 8, 7, 7)
    expected = F.interpolate(square, (5, 12), mode="bicubic", align_corners=False, antialias=False)
    resized = resize_position_embedding(embedding, (5, 12))
    assert torch.equal(resized[0], embedding[0])
    assert torch.equal(resized[1:].view(5, 12, 8).permute(2, 0, 1), expected[0])


def cubic_weight(distance):
    """Cubic convolution kernel (Keys, 1981) with torch's a = -0.75."""
    d, a = abs(distance), -0.75
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def resized_in_a_loop(values, length):
    """Resize rows (n, ...) to (length, ...) with replicated borders."""
    made = []
    for place in range(length):
        centre = (place + 0.5) * len(values) / length - 0.5
        first = int(np.floor(centre)) - 1
        near = [(min(max(row, 0), len(values) - 1), row) for row in range(first, first + 4)]
        made.append(sum(cubic_weight(centre - row) * values[inside] for inside, row in near))
    return np.stack(made)


@settings(deadline=None)
@given(st.integers(1, 16), st.integers(1, 30), st.integers(1, 30))
@example(14, 22, 22)  # the paper's
@example(7, 11, 16)
def test_position_resize_equals_cubic_convolution_in_a_loop(side, height, width):
    embedding = torch.from_numpy(np.random.default_rng(side).normal(size=(1 + side**2, 3))).float()
    square = embedding[1:].double().numpy().reshape(side, side, 3)
    rows = resized_in_a_loop(square, height)
    expected = resized_in_a_loop(rows.swapaxes(0, 1), width).swapaxes(0, 1)
    resized = resize_position_embedding(embedding, (height, width))
    assert torch.equal(resized[0], embedding[0])
    actual = resized[1:].view(height, width, 3).numpy()
    assert np.allclose(actual, expected, rtol=0, atol=1e-5)


def test_position_resize_to_the_same_grid_is_the_identity():
    embedding = torch.randn(1 + 49, 8)
    assert torch.equal(resize_position_embedding(embedding, (7, 7)), embedding)
    # it is not if only one side is the same
    assert resize_position_embedding(embedding, (7, 8)).shape == (57, 8)


# ---- texts


def test_cached_embeddings_equal_fresh_embeddings_in_order(backbone):
    fresh = CLIPBackbone(name="tiny", pretrained=False, text_cache=0)
    backbone.embed_text(["b", "c"])
    texts = ["c", "a", "c", "b", "a"]
    cached = backbone.embed_text(texts)
    one_by_one = torch.cat([fresh.embed_text([text]) for text in texts])
    torch.testing.assert_close(cached, one_by_one, rtol=1e-5, atol=1e-6)
    assert torch.equal(cached[0], cached[2]) and not torch.equal(cached[0], cached[1])


def test_cached_text_is_not_encoded_again(backbone):
    counts = encoded_texts(backbone)
    backbone.embed_text(["a dog", "a cat", "a dog"])
    backbone.embed_text(["a cat", "a bird"])
    backbone.embed_text(["a bird", "a dog"])
    assert counts == [2, 1]


def test_cache_evicts_the_least_recently_used_text():
    backbone = CLIPBackbone(name="tiny", pretrained=False, text_cache=3)
    many = [f"number {index}" for index in range(20)]
    assert len(backbone.embed_text(many)) == 20
    backbone.embed_text(["a", "b", "c"])
    backbone.embed_text(["a"])
    backbone.embed_text(["d"])  # evicts b
    counts = encoded_texts(backbone)
    backbone.embed_text(["a", "c", "d"])
    assert counts == []
    backbone.embed_text(["b"])
    assert counts == [1]


def test_cache_does_not_retain_whole_batches(backbone):
    backbone.embed_text([f"number {index}" for index in range(8)])
    for row in backbone.text_encoder._cache.values():
        assert row.untyped_storage().nbytes() == row.numel() * row.element_size()


def test_texts_cached_in_inference_mode_can_be_used_in_training(backbone):
    with torch.inference_mode():  # as in Lightning's validation
        backbone.embed_text(["a dog"])
    layer = torch.nn.Linear(32, 1)
    layer(backbone.embed_text(["a dog"])).sum().backward()
    assert layer.weight.grad is not None


def test_long_texts_are_truncated_with_a_warning(backbone):
    long = " ".join(["dog"] * 100)
    with pytest.warns(UserWarning, match="first 75 tokens"):
        cut = backbone.embed_text([long])
    with pytest.warns(UserWarning, match="first 75 tokens"):
        torch.testing.assert_close(cut, backbone.embed_text([" ".join(["dog"] * 76)]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone.embed_text([" ".join(["dog"] * 75)])


def test_cached_embedding_does_not_depend_on_autocast():
    text = "a dog by the sea"
    backbone = CLIPBackbone("tiny", pretrained=False)
    with torch.autocast("cpu", torch.bfloat16):
        first = backbone.embed_text([text])
    assert first.dtype == torch.float32
    fresh = CLIPBackbone("tiny", pretrained=False).embed_text([text])
    assert torch.equal(first, fresh)
