"""The backbone of ViTSeg: comparison with timm, frozen weights and text encoder."""

import json

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.models.vit_backbone import ViTBackbone, build_vit
from tests.conftest import TINY_VIT

PLAIN = "vit_tiny_patch16_224"
FORMS = {
    "plain": {},
    "layer scale": {"init_values": 0.3},
    "norm before the blocks": {"pre_norm": True},
    "norm after the pooling": {"global_pool": "avg"},
    "classifier": {"num_classes": 5},
}


@pytest.fixture
def backbone() -> ViTBackbone:
    return ViTBackbone("tiny", pretrained=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty weights folder."""
    monkeypatch.setenv("CLIPSEG_WEIGHTS", str(tmp_path))
    return tmp_path


def photos(count: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Set random weights that give every part of the model an effect."""
    for value in module.parameters():
        value.normal_(1.0 if value.ndim == 1 else 0.0, 0.2)


def tapped(vit: VisionTransformer, images: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
    """Return timm's tokens after the given blocks in ascending order, CLS token first."""
    pairs = vit.forward_intermediates(
        images, layers, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    return [torch.cat([cls, patches], 1) for patches, cls in pairs]


# ---- images, compared with timm


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@torch.no_grad()
def test_activations_and_cls_token_equal_timm(form, folder):
    (folder / "own_vit.json").write_text(json.dumps({**TINY_VIT, **form}))
    backbone = ViTBackbone("own", pretrained=False, clip="toy2")
    randomise(backbone.vit)
    timms = VisionTransformer(**{**TINY_VIT, **form, "num_classes": 0}).eval()
    timms.load_state_dict(backbone.vit.state_dict())
    images = photos(2, 96, 96)
    pixels = backbone.normalise(images)
    for ours, theirs in zip(
        backbone.activations(images, [9, 3, 7]),
        [tapped(timms, pixels, [3, 7, 9])[i] for i in (2, 0, 1)],
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    cls = timms.forward_features(pixels)[:, :1]
    pooled = timms.forward_head(cls.expand(-1, 2, -1), pre_logits=True)  # equal for any pooling
    expected = pooled @ backbone.image_head.weight.T + backbone.image_head.bias
    torch.testing.assert_close(backbone.embed_image(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(96, 160), (160, 96), (64, 64), (128, 128)])
@torch.no_grad()
def test_other_grids_equal_timms_model_of_that_size(size, backbone):
    """The position embeddings of timm's model are resized here, without antialiasing."""
    randomise(backbone.vit)
    state = backbone.vit.state_dict()
    own = state["pos_embed"]  # 1 1+36 48
    square = own[:, 1:].transpose(1, 2).unflatten(2, (6, 6))
    grid = size[0] // 16, size[1] // 16
    laid = F.interpolate(square, grid, mode="bicubic", align_corners=False, antialias=False)
    positions = torch.cat([own[:, :1], laid.flatten(2).transpose(1, 2)], 1)
    timms = VisionTransformer(**{**TINY_VIT, "img_size": size, "num_classes": 0}).eval()
    timms.load_state_dict({**state, "pos_embed": positions})
    images = photos(2, *size)
    ours = backbone.activations(images, [3, 9])
    for actual, expected in zip(
        ours, tapped(timms, backbone.normalise(images), [3, 9]), strict=True
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_published_architecture_equals_timm(folder):
    vit = build_vit(PLAIN, pretrained=False).eval()
    backbone = ViTBackbone(PLAIN, pretrained=False, clip="toy2")
    assert (backbone.shape.width, backbone.shape.patch_size, backbone.shape.depth) == (192, 16, 12)
    images = photos(1, 224, 224)
    with torch.no_grad():
        (expected,) = tapped(vit, backbone.normalise(images), [2])
    torch.testing.assert_close(backbone.activations(images, [2])[0], expected)


def test_blocks_after_the_deepest_tapped_layer_do_not_run(backbone):
    counts = [0] * 12
    for index, block in enumerate(backbone.vit.blocks):
        block.register_forward_hook(
            lambda *_, index=index: counts.__setitem__(index, counts[index] + 1)
        )
    backbone.activations(photos(1, 64, 64), [7, 3])
    assert counts == [1] * 8 + [0] * 4
    backbone.embed_image(photos(1, 64, 64))
    assert counts == [2] * 8 + [1] * 4


def test_wrong_images_are_rejected(backbone):
    with pytest.raises(TypeError, match="uint8"):
        backbone.embed_image(photos(1, 64, 64).float())
    with pytest.raises(ValueError, match="multiples of 16"):
        backbone.activations(photos(1, 60, 64), [3])


def test_masks_have_the_size_of_rectangular_images(backbone):
    model = CLIPSeg(backbone, FiLMDecoder).eval()
    supports = photos(2, 64, 64)
    vectors = model.conditional(
        ["a dog", "grass", "sky"], supports, torch.tensor([0, 2]), torch.tensor([0.5, 1.0, 0.0])
    )
    torch.testing.assert_close(vectors[1], backbone.embed_text(["grass"])[0])
    torch.testing.assert_close(vectors[2], backbone.embed_image(supports)[1])
    logits = model(photos(2, 48, 80), vectors, torch.tensor([0, 1, 1]))
    assert logits.shape == (3, 1, 48, 80)


# ---- frozen


def test_no_parameter_is_trainable(backbone):
    model = CLIPSeg(backbone, FiLMDecoder).train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(module.training for module in backbone.modules())
    vectors = backbone.embed_text(["a dog"]) + backbone.embed_image(photos(1, 64, 64))
    model(photos(1, 64, 64), vectors, torch.tensor([0])).mean().backward()
    assert all(parameter.grad is None for parameter in backbone.parameters())


# ---- text


def test_text_embeddings_equal_clip(backbone):
    texts = ["a dog", "grass", "a dog"]
    clip = CLIPBackbone("tiny", pretrained=False)
    assert torch.equal(backbone.embed_text(texts), clip.embed_text(texts))
    parts = {name.split(".")[1] for name, _ in backbone.named_parameters() if name[:5] == "clip."}
    assert "visual" not in parts and "transformer" in parts


def test_text_encoder_defaults_to_the_papers_clip(folder, monkeypatch):
    built = []

    def build_clip(name, **options):
        built.append((name, options["tag"], options["pretrained"]))
        return CLIPBackbone("toy2").clip

    monkeypatch.setattr("clipseg_pl.models.vit_backbone.build_clip", build_clip)
    (folder / "own_vit.json").write_text(json.dumps(TINY_VIT))
    ViTBackbone(PLAIN, pretrained=False)
    ViTBackbone("own", pretrained=False)
    ViTBackbone("own", pretrained=False, clip="ViT-L-14", tag="mine")
    assert built == [
        ("ViT-B-16-quickgelu", "openai", False),
        ("own", "openai", False),
        ("ViT-L-14", "mine", False),
    ]


# ---- random weights


def test_random_encoders_are_constant_and_the_head_depends_on_the_seed():
    states = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        states.append(ViTBackbone("tiny", pretrained=False).state_dict())
    first, other, again = states
    assert first.keys() == other.keys() == again.keys()
    for key, value in first.items():
        assert torch.equal(value, again[key])
        assert torch.equal(value, other[key]) != key.startswith("image_head."), key
