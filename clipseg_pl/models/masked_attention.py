"""Attention inside CLIP, restricted to the object in a support image.

This is an alternative to visual prompt engineering, which changes the pixels of the support image.

Reference: paper, Table 2, "CLIP modification"; settings from the authors' code.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipseg_pl.models.attention import project_heads, run_block
from clipseg_pl.models.clip_backbone import CLIPBackbone


@dataclass(frozen=True)
class AttentionMask:
    """The tokens and blocks whose attention is restricted to patches on the object.

    Restricted tokens still attend to the CLS token.

    Args:
        queries: "cls" restricts the attention of the CLS token, "patches" the attention of the
            patches. The latter is the paper's "mask all", in which the CLS token still attends to
            all patches, as in the authors' code.
        blocks: "last" restricts the last block only (layer 11 of ViT-B), "all" every block.
        zero_logits: multiply the logits of patches outside the object by 0 before the softmax, as
            the authors do. These patches then keep some attention, because the exponential of 0
            is 1. By default they get no attention. See `docs/deviations.md` (masked-attention).
    """

    queries: Literal["cls", "patches"]
    blocks: Literal["last", "all"]
    zero_logits: bool = False


@torch.no_grad()
def embed_masked(
    backbone: CLIPBackbone, images: Tensor, masks: Tensor, masking: AttentionMask
) -> Tensor:
    """Embed images with attention restricted to the objects.

    Args:
        backbone: CLIP backbone.
        images: (N, 3, H, W) uint8 RGB; H and W are multiples of the patch size.
        masks: (N, H, W) bool, true on the object. A patch is on the object if its top left pixel
            is (nearest neighbour, as in the authors' code). If no patch is on the object,
            restricted tokens attend to the CLS token only.
        masking: tokens and blocks to restrict.

    Returns:
        Raw (not L2-normalised) embeddings (N, C).

    Reference: paper, Table 2.
    """
    patch, depth = backbone.shape.patch_size, backbone.shape.depth
    allowed = allowed_pairs(masks[:, ::patch, ::patch], masking.queries)
    attend = partial(masked_attention, allowed=allowed, zero_logits=masking.zero_logits)
    first = depth - 1 if masking.blocks == "last" else 0
    tokens = backbone.embed_patches(images)
    for index, block in enumerate(backbone.clip.visual.transformer.resblocks):
        tokens = run_block(block, tokens, attend=attend if index >= first else None)
    return backbone.pool(tokens)


def allowed_pairs(patches: Tensor, queries: Literal["cls", "patches"]) -> Tensor:
    """Return the attention mask of each image.

    Args:
        patches: (B, h, w) bool, true for patches on the object.
        queries: see `AttentionMask`.

    Returns:
        (B, 1 + N, 1 + N) bool, true where the token of the row may attend to the token of the
        column; CLS token first.
    """
    columns = F.pad(patches.flatten(1), (1, 0), value=True)  # B h w -> B 1+N
    allowed = torch.ones_like(columns)[:, None].repeat(1, columns.shape[1], 1)
    rows = slice(0, 1) if queries == "cls" else slice(1, None)
    allowed[:, rows] = columns[:, None]
    return allowed


def masked_attention(
    attention: nn.MultiheadAttention, tokens: Tensor, allowed: Tensor, zero_logits: bool
) -> Tensor:
    """Apply multi-head self-attention to each sequence, with a mask.

    Args:
        attention: layer that provides the weights.
        tokens: (B, N, width).
        allowed: (B, N, N) bool, see `allowed_pairs`; every row has at least one true column.
        zero_logits: set the logits of pairs that are not allowed to 0 instead of -inf.

    Returns:
        (B, N, width).
    """
    query, key, value = project_heads(attention, tokens)
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # B heads N N
    masked_logit = 0.0 if zero_logits else -torch.inf
    logits = logits.masked_fill(~allowed[:, None], masked_logit)
    attended = logits.softmax(-1) @ value
    joined: Tensor = attention.out_proj(attended.transpose(1, 2).flatten(2))
    return joined
