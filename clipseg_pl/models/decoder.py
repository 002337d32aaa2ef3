"""The FiLM transformer decoder, the trained part of CLIPSeg."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from clipseg_pl.models.attention import EncoderLayer
from clipseg_pl.models.backbone import BackboneShape

_FEEDFORWARD = 2048  # torch's default, which the authors use


class Decoder(nn.Module, ABC):
    """Base class of the decoders of `CLIPSeg`.

    `layers` are the tapped layers, deepest first: indices of the backbone's blocks whose output the
    decoder uses.
    """

    layers: tuple[int, ...]

    def check_layers(self, trained: Sequence[int] | None) -> None:
        """Reject checkpoints trained on other layers; tensor shapes alone would not reveal it.

        Args:
            trained: tapped layers of the checkpoint in ascending order; None if unknown.

        Raises:
            ValueError: if the layers differ.
        """
        own = sorted(self.layers)
        if trained is not None and list(trained) != own:
            raise ValueError(
                f"the checkpoint's decoder taps layers {list(trained)}, but this model's decoder "
                f"taps layers {own}. Use the layers and the backbone of the checkpoint"
            )

    @abstractmethod
    def project(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Run the part of the decoder that does not depend on the prompt.

        Args:
            activations: one (B, 1 + N, width) tensor per tapped layer, deepest first.
        """

    @abstractmethod
    def forward(
        self,
        projected: Sequence[Tensor],
        conditional: Tensor,
        query_index: Tensor,
        grid: tuple[int, int],
    ) -> Tensor:
        """Segment an image for each prompt.

        Args:
            projected: result of `project` for B images.
            conditional: (P, C) conditional vectors.
            query_index: (P,) int64, index of the query image of each prompt.
            grid: height and width of the images in patches.

        Returns:
            (P, 1, H, W) logits.
        """


class FiLMDecoder(Decoder):
    """Transformer decoder with skip connections to CLIP's blocks, modulated by FiLM.

    FiLM (feature-wise linear modulation) multiplies each channel by a scale and adds a shift, which
    are both computed from the conditional vector.

    Every tapped layer has its own linear projection and decoder block. The projection of the
    deepest layer is modulated by FiLM and enters the first block. Each other projection is added to
    the output of the previous block before it enters its own block. Blocks are torch's post-norm
    encoder layers with ReLU. The CLS token is dropped before the head. The decoder has 1,073,153
    parameters on ViT-B/16. See `docs/deviations.md` (parameter-count).

    Args:
        shape: sizes of the backbone.
        layers: tapped layers, counted from 0, in any order. By default the paper's layers 3, 7 and
            9 of 12, or their equivalent in backbones of another depth (`default_layers`). See
            `docs/deviations.md` (tapped-layers).
        dim: width D of the decoder's tokens.
        heads: number of attention heads.
        feedforward: hidden width of the MLP in each block. By default 2,048, as in the paper's
            models, or 4 * `embed_dim` for a backbone whose embeddings have fewer than 512 channels.
            See `docs/deviations.md` (mlp-width).
        dropout: dropout probability in attention, MLP and residual connections.
        head: "simple" is the paper's single transposed convolution, whose kernel has the size of a
            patch. "refined" is the later head of the authors' code, a 3 x 3 convolution and two
            transposed convolutions.

    Raises:
        ValueError: if the backbone does not have the layers, or `dim` is not divisible by `heads`.

    Reference: paper, section 3.1; sizes from the authors' code, models/clipseg.py.
    """

    def __init__(
        self,
        shape: BackboneShape,
        *,
        layers: Sequence[int] | None = None,
        dim: int = 64,
        heads: int = 4,
        feedforward: int | None = None,
        dropout: float = 0.1,
        head: Literal["simple", "refined"] = "simple",
    ) -> None:
        """Build the decoder with torch's default initialisation."""
        super().__init__()
        heads_by_name = {"simple": simple_head, "refined": refined_head}
        if head not in heads_by_name:
            raise ValueError(f"the decoder's head must be 'simple' or 'refined', not {head!r}")
        if feedforward is None:
            feedforward = min(_FEEDFORWARD, 4 * shape.embed_dim)
        if min(dim, heads, feedforward) < 1:
            raise ValueError(
                f"the decoder's dim {dim}, heads {heads} and feedforward {feedforward} must be >= 1"
            )
        if dim % heads:
            raise ValueError(f"the decoder's dim {dim} must be divisible by its heads {heads}")
        self.layers = deepest_first(default_layers(shape) if layers is None else layers, shape)
        self.projections = nn.ModuleList(nn.Linear(shape.width, dim) for _ in self.layers)
        self.film_scale = nn.Linear(shape.embed_dim, dim)
        self.film_shift = nn.Linear(shape.embed_dim, dim)
        self.blocks = nn.ModuleList(
            EncoderLayer(dim, heads, feedforward, dropout) for _ in self.layers
        )
        self.head = heads_by_name[head](dim, shape.patch_size)
        self.settings = {
            "layers": sorted(self.layers),
            "dim": dim,
            "heads": heads,
            "feedforward": feedforward,
            "dropout": dropout,
            "head": head,
        }
        """the arguments, apart from `shape`"""

    def project(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Map activations (B, 1 + N, width), deepest first, to tokens (B, 1 + N, D)."""
        return [
            projection(tokens)
            for projection, tokens in zip(self.projections, activations, strict=True)
        ]

    def forward(
        self,
        projected: Sequence[Tensor],
        conditional: Tensor,
        query_index: Tensor,
        grid: tuple[int, int],
    ) -> Tensor:
        """Return logits (P, 1, H, W). See `Decoder.forward`."""
        tokens = film(
            projected[0][query_index], self.film_scale(conditional), self.film_shift(conditional)
        )
        tokens = self.blocks[0](tokens)  # P 1+N D
        for skipped, block in zip(projected[1:], self.blocks[1:], strict=True):
            tokens = block(tokens + skipped[query_index])
        logits: Tensor = self.head(patch_grid(tokens, grid))
        return logits


def default_layers(shape: BackboneShape) -> tuple[int, ...]:
    """Return the paper's layers 3, 7 and 9 of 12, scaled to the depth of the backbone.

    The layers are at the same relative depth, rounded up: 7, 15 and 19 of 24; 10, 21 and 26 of 32.
    They are distinct if the backbone has at least three blocks.
    """
    return tuple(((block + 1) * shape.depth - 1) // 12 for block in (3, 7, 9))


def deepest_first(layers: Sequence[int], shape: BackboneShape) -> tuple[int, ...]:
    """Sort tapped layers, deepest first.

    Raises:
        ValueError: if there are no layers, duplicates, or layers that the backbone does not have.
    """
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(range(shape.depth)):
        raise ValueError(
            f"layers {list(layers)} must be distinct blocks of the backbone, which has blocks 0 to "
            f"{shape.depth - 1}. Set the layers of the decoder"
        )
    return tuple(sorted(layers, reverse=True))


def film(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return scale * tokens + shift for tokens (P, 1 + N, D), scale (P, D) and shift (P, D).

    Some other implementations of FiLM multiply by 1 + scale.
    """
    return scale[:, None] * tokens + shift[:, None]


def patch_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Drop the CLS token and reshape (P, 1 + N, D) to (P, D, height, width)."""
    return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def simple_head(dim: int, patch_size: int) -> nn.Module:
    """Build the paper's head, a linear map from each token to the logits of its patch."""
    return nn.ConvTranspose2d(dim, 1, patch_size, patch_size)


def refined_head(dim: int, patch_size: int) -> nn.Module:
    """Build the authors' `complex_trans_conv` head for any patch size.

    The product of the two strides must be the patch size. The authors' formula, patch / 4 for both
    strides, meets this condition only for patches of 16 pixels. In this function the first stride
    is the smallest divisor of the patch size that is at least its square root. For 16 pixels both
    strides are 4, as published. See `docs/deviations.md` (refined-head).

    Reference: authors' code, models/clipseg.py.
    """
    root = math.isqrt(patch_size - 1) + 1  # rounded up
    first = next(size for size in range(root, patch_size + 1) if patch_size % size == 0)
    second = patch_size // first
    return nn.Sequential(
        nn.Conv2d(dim, dim, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(dim, dim // 2, first, first),
        nn.ReLU(),
        nn.ConvTranspose2d(dim // 2, 1, second, second),
    )
