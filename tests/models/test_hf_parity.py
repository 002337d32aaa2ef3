"""Comparison with Hugging Face's CLIPSeg on equal random weights: ViT-B/16, 352 px, 3 7 9."""

import copy
from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation
from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

from clipseg_pl.convert.key_map import clip_state, decoder_state
from clipseg_pl.inference.segmenter import Segmenter
from clipseg_pl.models import clip_backbone
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg, Encoding
from clipseg_pl.models.decoder import FiLMDecoder

pytestmark = pytest.mark.slow

TEXTS = ["a dog", "the grass near a red fence"]
HEADS = ("simple", "refined")
TOLERANCE = 1e-5  # of the standard deviation
EACH_ITS_IMAGE = torch.arange(2)


class Case(NamedTuple):
    """Results of both implementations for one head and one prompt type."""

    conditional: Tensor
    encoding: Encoding
    logits: Tensor
    their_conditional: Tensor
    their_logits: Tensor


def config(head: str) -> CLIPSegConfig:
    vision = {"patch_size": 16, "image_size": 224, "hidden_size": 768, "intermediate_size": 3072}
    return CLIPSegConfig(
        vision_config={**vision, "num_hidden_layers": 12, "num_attention_heads": 12},
        extract_layers=[3, 7, 9],
        reduce_dim=64,
        use_complex_transposed_convolution=head == "refined",
    )


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Set weights of variance 1 / inputs.

    With Hugging Face's initialisation, text and image hardly change the logits.
    """
    generator = torch.Generator().manual_seed(0)
    for name, value in module.named_parameters():
        noise = torch.randn(value.shape, generator=generator)
        if "embedding" in name:
            value.copy_(0.5 * noise)
        elif "norm" in name or "layrnorm" in name:
            value.copy_(0.1 * noise + name.endswith("weight"))
        elif value.ndim > 1:
            value.copy_(noise / value[0].numel() ** 0.5)
        elif value.ndim:
            value.copy_(0.1 * noise)


@pytest.fixture(scope="module")
def theirs() -> dict[str, CLIPSegForImageSegmentation]:
    model = CLIPSegForImageSegmentation(config("simple")).eval()
    randomise(model)
    refined = copy.copy(model)  # shares CLIP
    refined._modules = {**model._modules, "decoder": CLIPSegDecoder(config("refined")).eval()}
    randomise(refined.decoder)
    return {"simple": model, "refined": refined}


@pytest.fixture(scope="module")
def ours(theirs) -> dict[str, CLIPSeg]:
    backbone = CLIPBackbone(pretrained=False)
    backbone.clip.load_state_dict(clip_state(theirs["simple"].state_dict()), strict=True)
    models = {}
    for head in HEADS:
        models[head] = CLIPSeg(backbone, partial(FiLMDecoder, head=head)).eval()
        own = decoder_state(theirs[head].state_dict())
        models[head].decoder.load_state_dict(own, strict=True)
    return models


@pytest.fixture(scope="module")
def images() -> Tensor:
    coarse = torch.rand(2, 3, 22, 22, generator=torch.Generator().manual_seed(1))
    return (F.interpolate(coarse, 352, mode="bilinear") * 255).byte()


@pytest.fixture(scope="module")
@torch.no_grad()
def cases(ours, theirs, images) -> dict[tuple[str, str], Case]:
    backbone = ours["simple"].backbone
    red_and_blue = torch.tensor([[255, 0, 0], [0, 0, 255]], dtype=torch.uint8)
    supports = red_and_blue[:, :, None, None].expand_as(images)
    tokens = backbone.text_encoder.tokenizer(TEXTS)
    attended = (torch.arange(77)[None] <= tokens.argmax(1, keepdim=True)).long()
    inputs = {
        "text": {"input_ids": tokens, "attention_mask": attended},
        "image": {"conditional_pixel_values": backbone.normalise(supports)},
    }
    conditional = {"text": backbone.embed_text(TEXTS), "image": backbone.embed_image(supports)}
    results = {}
    for head in HEADS:
        encoding = ours[head].encode(images)
        for kind in inputs:
            logits = ours[head].decode(encoding, conditional[kind], EACH_ITS_IMAGE)[:, 0]
            their = theirs[head](pixel_values=backbone.normalise(images), **inputs[kind])
            results[head, kind] = Case(
                conditional[kind], encoding, logits, their.conditional_embeddings, their.logits
            )
    return results


def distance(logits: Tensor, case: Case) -> float:
    """Return the largest difference to their logits, relative to the standard deviation."""
    return float((logits - case.their_logits).abs().max() / case.their_logits.std())


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("head", HEADS)
def test_conditional_vectors_and_logits_are_equal(cases, head, kind):
    case = cases[head, kind]
    torch.testing.assert_close(case.conditional, case.their_conditional, rtol=0, atol=1e-5)
    assert distance(case.logits, case) <= TOLERANCE


@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_prompt_changes_logits(ours, cases, head, kind):
    case = cases[head, kind]
    exchanged = ours[head].decode(case.encoding, case.conditional.flip(0), EACH_ITS_IMAGE)[:, 0]
    assert float((exchanged - case.logits).abs().mean() / case.logits.std()) > 0.05


@pytest.fixture
def differs(ours, images, cases):
    """Function that checks whether a changed model gives clearly different logits."""

    @torch.no_grad()
    def compare(encoding: Encoding | None = None, conditional: Tensor | None = None) -> bool:
        model, case = ours["simple"], cases["simple", "text"]
        encoding = model.encode(images) if encoding is None else encoding
        conditional = case.conditional if conditional is None else conditional
        logits = model.decode(encoding, conditional, EACH_ITS_IMAGE)[:, 0]
        return distance(logits, case) > 100 * TOLERANCE

    return compare


def test_unchanged_model_does_not_differ(differs):
    assert not differs()


def test_other_layers_differ(differs, ours, images):
    model = ours["simple"]
    tapped = model.backbone.activations(images, (9, 6, 3))
    assert differs(encoding=Encoding(model.decoder.project(tapped), (22, 22)))


def test_normalised_embedding_differs(differs, cases):
    case = cases["simple", "text"]
    assert differs(encoding=case.encoding, conditional=F.normalize(case.conditional, dim=1))


def test_exchanged_scale_and_shift_differ(differs, ours, cases, monkeypatch):
    decoder = ours["simple"].decoder
    scale, shift = decoder.film_scale, decoder.film_shift
    monkeypatch.setitem(decoder._modules, "film_scale", shift)
    monkeypatch.setitem(decoder._modules, "film_shift", scale)
    assert differs(encoding=cases["simple", "text"].encoding)


def test_antialiased_positions_differ(differs, monkeypatch):
    def antialiased(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
        square = embedding[1:].T.reshape(1, -1, 14, 14)
        resized = F.interpolate(square, tuple(grid), mode="bicubic", antialias=True)
        return torch.cat([embedding[:1], resized[0].flatten(1).T])

    monkeypatch.setattr(clip_backbone, "resize_position_embedding", antialiased)
    assert differs()


def test_exact_gelu_differs(differs, ours, monkeypatch):
    for block in ours["simple"].backbone.clip.visual.transformer.resblocks:
        monkeypatch.setitem(block.mlp._modules, "gelu", nn.GELU())
    assert differs()


def test_normalisation_with_clips_constants_differs(differs, ours, monkeypatch):
    backbone = ours["simple"].backbone
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    monkeypatch.setitem(backbone._buffers, "mean", torch.tensor(mean).view(3, 1, 1))
    monkeypatch.setitem(backbone._buffers, "std", torch.tensor(std).view(3, 1, 1))
    assert differs()


def test_clip_in_a_published_file_is_used(theirs, ours, images, tmp_path):
    theirs["refined"].save_pretrained(tmp_path)
    segmenter = Segmenter.from_pretrained(tmp_path / "model.safetensors", precision="float32")
    photo = images[0].permute(1, 2, 0).numpy()
    with torch.no_grad():
        conditional = ours["refined"].backbone.embed_text(TEXTS)
        expected = ours["refined"](images[:1], conditional, torch.zeros(2, dtype=torch.long))
    actual = torch.from_numpy(segmenter(photo, TEXTS).probability)
    assert torch.allclose(actual, expected[:, 0].sigmoid(), atol=1e-5)
