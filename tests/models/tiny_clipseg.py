"""Small CLIPSeg models with random weights, in which all sizes are distinct."""

from functools import partial

import torch

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.weights.clip import random_clip

CONFIG = {
    "embed_dim": 20,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 48,
        "layers": 5,
        "width": 24,
        "head_width": 8,
        "patch_size": 16,
        "mlp_ratio": 2.0,
    },
    "text_cfg": {
        "context_length": 30,
        "vocab_size": 49408,
        "width": 16,
        "heads": 2,
        "layers": 2,
        "mlp_ratio": 3.0,
    },
}


def tiny_config(patch: int = 16, depth: int = 5, quick_gelu: bool = True) -> dict:
    """Return an open_clip configuration."""
    sizes = {"patch_size": patch, "image_size": 3 * patch, "layers": depth}
    vision = {**CONFIG["vision_cfg"], **sizes}
    return {**CONFIG, "quick_gelu": quick_gelu, "vision_cfg": vision}


def tiny_backbone(**config) -> CLIPBackbone:
    """Build a CLIP from `tiny_config`."""
    open_clip_config = tiny_config(**config)
    return CLIPBackbone.from_state_dict(
        open_clip_config, random_clip(open_clip_config).state_dict()
    )


@torch.no_grad()
def tiny_model(layers=(0, 2, 3), dim=8, head="simple", heads=4, **config) -> CLIPSeg:
    """Build a CLIPSeg in evaluation mode, with logits that clearly depend on the prompt."""
    decoder = partial(FiLMDecoder, layers=layers, dim=dim, head=head, heads=heads, feedforward=12)
    model = CLIPSeg(tiny_backbone(**config), decoder).eval()
    model.backbone.clip.text_projection.mul_(5)
    return model


def logits(model: CLIPSeg, images: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Return logits (P, H, W), one text per image."""
    with torch.inference_mode():
        conditional = model.backbone.embed_text(texts)
        return model(images, conditional, torch.arange(len(texts)))[:, 0]
