"""Scales of the toy encoders' activations and embeddings, set to values that suit a decoder.

Pre-norm blocks normalise the residual stream (the sum of all earlier outputs) before they use it,
and contrastive training normalises embeddings. The scales of both therefore drift during
pre-training without an effect on its loss. A decoder trained at the paper's learning rate depends
on these scales. The measurements are of an earlier toy world, with 20 kinds and a CLIP of 12
blocks. We trained decoders for 300 steps on it (seed 0). Their mIoU with text prompts, at the best
threshold, was

- .35, .395 and .32 for a residual stream with a standard deviation of 1, 2 and 4 after block 9
  of 12, with text embeddings of norm 6.9;
- .35, .395 and .407 for text embeddings of norm 3.4, 6.9 and 13.7, with a residual stream of
  standard deviation 2.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

# patterns of weight names: weights that write to the residual stream of an image encoder
# (*_STREAM), and weights that produce embeddings (CLIP_EMBEDDINGS)
CLIP_STREAM = r"visual\.(ln_pre|.*\.attn\.out_proj|.*\.mlp\.c_proj)\..*"
CLIP_EMBEDDINGS = r"visual\.proj|text_projection"
VIT_STREAM = r"cls_token|pos_embed|patch_embed\..*|blocks\..*\.(attn\.proj|mlp\.fc2)\..*"


STREAM_STD = 2.0
"""approximate standard deviation of the exported residual stream after the deepest tapped layer"""
EMBEDDING_NORM = 10.0
"""approximate norm of the exported text embeddings"""


def tapped_layers(depth: int) -> list[int]:
    """Return the layers that a decoder taps in an encoder of `depth` blocks, deepest last."""
    # equals clipseg_pl.models.decoder.default_layers, which this package must not import
    return [((block + 1) * depth - 1) // 12 for block in (3, 7, 9)]


def factor_to(wanted: float, present: float) -> float:
    """Return the power of two closest to `wanted / present`, on a log scale."""
    return float(2.0 ** round(math.log2(wanted / present)))


def rescaled(state: Mapping[str, Tensor], factors: Mapping[str, float]) -> dict[str, Tensor]:
    """Scale the residual stream of an image encoder, or the embeddings of images and texts.

    Args:
        state: State dict of an open_clip CLIP or a timm ViT with pre-norm blocks.
        factors: Pattern that matches the full name of a weight -> factor on the weight. Powers
            of two are exact in all float formats.

    Returns:
        The state dict with the matching weights multiplied.
    """

    def factor(key: str) -> float:
        return next((f for pattern, f in factors.items() if re.fullmatch(pattern, key)), 1.0)

    return {key: value * factor(key) for key, value in state.items()}
