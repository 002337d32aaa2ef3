"""A support mask inside CLIP's own attention: the other way to say which object is meant.

Reference: paper Table 2, "CLIP modification"; settings from the authors' code.
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
    """Whose attention is kept off the patches outside of the object, and in which blocks.

    Args:
        queries: "cls" masks what the CLS token attends to, "patches" what the patches attend to
            (the paper's "mask all", where the CLS token still sees everything, as in the authors'
            code). Everybody always attends to the CLS token.
        blocks: the last alone (layer 11 of ViT-B), or all.
        zero_logits: multiply the logits of masked patches by 0 before the softmax, as the authors
            do, which leaves such a patch the weight of a logit of 0; by default it gets none.
            That the authors' masks of a batch went to the wrong images is not repeated.
    """

    queries: Literal["cls", "patches"]
    blocks: Literal["last", "all"]
    zero_logits: bool = False


@torch.no_grad()
def embed_masked(
    backbone: CLIPBackbone, images: Tensor, masks: Tensor, masking: AttentionMask
) -> Tensor:
    """Embed images whole, with attention kept to the objects.

    Args:
        backbone: any CLIP; its weights are used as they are.
        images: (N, 3, H, W) uint8 RGB; H and W are multiples of the patch.
        masks: (N, H, W) bool, true on the object. A patch counts as its first pixel does (nearest
            neighbour, as in the authors' code); where no patch is left, the CLS token is.
        masking: see there.

    Returns:
        (N, C), raw (not L2-normalised).
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
    """Which token may attend to which.

    Args:
        patches: (B, h, w) bool, true for patches on the object.
        queries: see `AttentionMask`.

    Returns:
        (B, 1 + N, 1 + N) bool, rows attend to columns, CLS first.
    """
    columns = F.pad(patches.flatten(1), (1, 0), value=True)  # B h w -> B 1+N
    allowed = torch.ones_like(columns)[:, None].repeat(1, columns.shape[1], 1)
    rows = slice(0, 1) if queries == "cls" else slice(1, None)
    allowed[:, rows] = columns[:, None]
    return allowed


def masked_attention(
    attention: nn.MultiheadAttention, tokens: Tensor, allowed: Tensor, zero_logits: bool
) -> Tensor:
    """Attend within each sequence, where it is allowed.

    Args:
        attention: whose weights to use.
        tokens: (B, N, width).
        allowed: (B, N, N) bool, rows attend to columns; at least one column a row.
        zero_logits: give what is not allowed a logit of 0 instead of no weight at all.

    Returns:
        (B, N, width).
    """
    query, key, value = project_heads(attention, tokens)
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5  # B heads N N
    refused = 0.0 if zero_logits else -torch.inf
    logits = logits.masked_fill(~allowed[:, None], refused)
    attended = logits.softmax(-1) @ value
    joined: Tensor = attention.out_proj(attended.transpose(1, 2).flatten(2))
    return joined
