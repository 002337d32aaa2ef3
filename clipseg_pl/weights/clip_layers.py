"""The layers of a plain ViT CLIP without its forward pass, which is in `models/`.

Names and shapes of the weights are those of `open_clip.CLIP`. open_clip is not imported, because
it imports torchvision, timm and transformers. That takes longer than segmenting a photo.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """Layer normalisation whose output has the dtype of its input, also under autocast."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Normalise tokens (..., width)."""
        normed = F.layer_norm(tokens, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.to(tokens.dtype)


class QuickGELU(nn.Module):
    """OpenAI's approximate GELU, x * sigmoid(1.702 x)."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Apply the function to each element."""
        return hidden * torch.sigmoid(1.702 * hidden)


class LayerScale(nn.Module):
    """Multiplication of each channel by a learned factor."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Scale tokens (..., width)."""
        return tokens * self.gamma


class Block(nn.Module):
    """Layers of a pre-norm transformer block; `models.attention.run_block` computes it."""

    def __init__(self, width: int, heads: int, hidden: int, scaled: bool, quick: bool) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ls_1 = LayerScale(width) if scaled else nn.Identity()
        self.ln_2 = LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", QuickGELU() if quick else nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))
        self.ls_2 = LayerScale(width) if scaled else nn.Identity()


class Transformer(nn.Module):
    """Blocks of one of the encoders.

    Args:
        config: `vision_cfg` or `text_cfg` of an open_clip configuration.
        width: width of the tokens.
        heads: number of attention heads.
        quick: whether the activation function is QuickGELU.
    """

    resblocks: Any  # nn.ModuleList of `Block`

    def __init__(self, config: Mapping[str, Any], width: int, heads: int, quick: bool) -> None:
        super().__init__()
        hidden = int(width * config.get("mlp_ratio", 4.0))
        scaled = config.get("ls_init_value") is not None
        self.resblocks = nn.ModuleList(
            Block(width, heads, hidden, scaled, quick) for _ in range(config.get("layers", 12))
        )


class ImageEncoder(nn.Module):
    """Layers of the ViT."""

    def __init__(self, config: Mapping[str, Any], embed_dim: int, quick: bool) -> None:
        super().__init__()
        width, patch = config.get("width", 768), config.get("patch_size", 16)
        self.image_size = config.get("image_size", 224)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        positions = 1 + (self.image_size // patch) ** 2
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.ln_pre = LayerNorm(width)
        heads = width // config.get("head_width", 64)
        self.transformer = Transformer(config, width, heads, quick)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, embed_dim))


class CLIP(nn.Module):
    """Layers of both encoders, without memory for the weights (on torch's meta device).

    Use `load_state_dict(..., assign=True)` to set the weights.

    Args:
        embed_dim: width C of the joint embedding space.
        vision_cfg: sizes of the image encoder, as in open_clip.
        text_cfg: sizes of the text encoder, as in open_clip.
        quick_gelu: whether the activation function is QuickGELU.
        init_logit_scale: initial value of a weight that CLIPSeg does not use; ignored.
    """

    def __init__(
        self,
        embed_dim: int,
        vision_cfg: Mapping[str, Any],
        text_cfg: Mapping[str, Any],
        quick_gelu: bool = False,
        init_logit_scale: float | None = None,
    ) -> None:
        super().__init__()
        width = text_cfg.get("width", 512)
        self.context_length = text_cfg.get("context_length", 77)
        with torch.device("meta"):
            self.visual = ImageEncoder(vision_cfg, embed_dim, quick_gelu)
            self.transformer = Transformer(text_cfg, width, text_cfg.get("heads", 8), quick_gelu)
            table = torch.empty(text_cfg.get("vocab_size", 49408), width)
            # the usual constructor samples weights, for which torch imports sympy on this device
            embedding = nn.Embedding.from_pretrained(table)  # type: ignore[no-untyped-call]
            self.token_embedding = embedding
            self.positional_embedding = nn.Parameter(torch.empty(self.context_length, width))
            self.ln_final = LayerNorm(width)
            self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
            self.logit_scale = nn.Parameter(torch.empty(()))
