"""The scales of a CLIP that contrastive pre-training leaves open, set to what a decoder likes.

A pre-norm transformer normalises whatever it reads from its residual stream, and contrastive
training normalises embeddings, so the scales of both are free and drift. A decoder trained on them
at the paper's learning rate cares. In 300 steps on the toy world (seed 0) it reached a text mIoU
at the best threshold of .35, .395 and .32 where the stream's standard deviation after block 9 was
1, 2 and 4 (text embeddings of norm 6.9), and of .35, .395 and .407 where that norm was 3.4, 6.9 and
13.7 (stream of 2).
"""

from collections.abc import Mapping

from torch import Tensor

_WRITERS = ("visual.ln_pre.", ".attn.out_proj.", ".mlp.c_proj.")
"""what writes into the stream of the vision tower"""
_PROJECTIONS = ("visual.proj", "text_projection")


def rescaled(state: Mapping[str, Tensor], stream: float, embeddings: float) -> dict[str, Tensor]:
    """Scale the vision tower's residual stream, and the embeddings of images and texts.

    Args:
        state: Of an open_clip CLIP with pre-norm blocks.
        stream: Factor on the tokens; a power of two loses nothing in any float format.
        embeddings: Factor on the embeddings, likewise.

    Returns:
        The same state with what writes into the stream, and the projections, multiplied.
    """

    def factor(key: str) -> float:
        if key in _PROJECTIONS:
            return embeddings
        writes = key.startswith("visual.") and any(part in key for part in _WRITERS)
        return stream if writes else 1.0

    return {key: value * factor(key) for key, value in state.items()}
