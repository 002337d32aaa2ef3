"""The FiLM transformer decoder, the part of CLIPSeg that is trained."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from clipseg_pl.models.attention import EncoderLayer
from clipseg_pl.models.backbone import BackboneShape


class Decoder(nn.Module, ABC):
    """What `CLIPSeg` needs from a decoder.

    `layers` are the blocks of the backbone it taps, deepest first.
    """

    layers: tuple[int, ...]

    def check_layers(self, trained: Sequence[int] | None) -> None:
        """Refuse weights that read other blocks in training: they would fit all the same.

        Args:
            trained: the blocks, rising; None where a file does not say.

        Raises:
            ValueError: naming both.
        """
        own = sorted(self.layers)
        if trained is not None and list(trained) != own:
            raise ValueError(
                f"the checkpoint's decoder taps layers {list(trained)}, the one built here {own}: "
                "build it with those, on the backbone of its training"
            )

    @abstractmethod
    def project(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Map activations (B, 1 + N, width), one a layer, to what does not depend on a prompt."""

    @abstractmethod
    def forward(
        self,
        projected: Sequence[Tensor],
        conditional: Tensor,
        query_index: Tensor,
        grid: tuple[int, int],
    ) -> Tensor:
        """Segment.

        Args:
            projected: what `project` returned, for B images.
            conditional: (P, C) conditional vectors.
            query_index: (P,) int64, the image that each prompt asks about.
            grid: height and width of the images in patches.

        Returns:
            (P, 1, H, W) logits.
        """


class FiLMDecoder(Decoder):
    """Transformer decoder with skip connections to CLIP's blocks, modulated by FiLM.

    One projection a tapped layer; the deepest enters first and is modulated by the conditional
    vector, each further one is added before its block. Blocks are torch's post-norm encoder
    layers with ReLU; the CLS token stays until the head.

    Args:
        shape: sizes of the backbone.
        layers: tapped blocks, counted from 0; the order does not matter. By default the paper's 3,
            7 and 9 of 12, or their like in another depth (`default_layers`).
        dim: width D of the decoder's tokens.
        heads: attention heads.
        feedforward: hidden width of the blocks' MLP.
        dropout: in attention, MLP and residuals.
        head: "simple" is one transposed convolution of patch size, the paper's; "refined" is the
            authors' later one (3 x 3 convolution and two transposed convolutions).

    Raises:
        ValueError: layers that the backbone does not have; a width that the heads do not divide.

    Reference: paper section 3.1; sizes from the authors' code.
    """

    def __init__(
        self,
        shape: BackboneShape,
        *,
        layers: Sequence[int] | None = None,
        dim: int = 64,
        heads: int = 4,
        feedforward: int = 2048,
        dropout: float = 0.1,
        head: Literal["simple", "refined"] = "simple",
    ) -> None:
        """Build the decoder with torch's default initialisation."""
        super().__init__()
        heads_by_name = {"simple": simple_head, "refined": refined_head}
        if head not in heads_by_name:
            raise ValueError(f"the decoder's head is simple or refined, not {head!r}")
        if min(dim, heads, feedforward) < 1:
            raise ValueError(
                f"the decoder's dim {dim}, heads {heads} and feedforward {feedforward} must be >= 1"
            )
        if dim % heads:
            raise ValueError(f"the {heads} heads do not divide the decoder's width dim = {dim}")
        self.layers = deepest_first(default_layers(shape) if layers is None else layers, shape)
        self.projections = nn.ModuleList(nn.Linear(shape.width, dim) for _ in self.layers)
        self.film_scale = nn.Linear(shape.embed_dim, dim)
        self.film_shift = nn.Linear(shape.embed_dim, dim)
        self.blocks = nn.ModuleList(
            EncoderLayer(dim, heads, feedforward, dropout) for _ in self.layers
        )
        self.head = heads_by_name[head](dim, shape.patch_size)

    def project(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Map activations (B, 1 + N, width), deepest first, to (B, 1 + N, D) each."""
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
        """Segment: (P, 1, H, W) logits. See `Decoder.forward`."""
        tokens = film(
            projected[0][query_index], self.film_scale(conditional), self.film_shift(conditional)
        )
        tokens = self.blocks[0](tokens)  # P 1+N D
        for skipped, block in zip(projected[1:], self.blocks[1:], strict=True):
            tokens = block(tokens + skipped[query_index])
        logits: Tensor = self.head(patch_grid(tokens, grid))
        return logits


def default_layers(shape: BackboneShape) -> tuple[int, ...]:
    """The paper's blocks 3, 7 and 9 of 12, or those that end as far up a tower of another depth.

    Where no block ends there, the next one does: 7, 15, 19 of 24; 10, 21, 26 of 32. They differ
    from three blocks on.
    """
    return tuple(((block + 1) * shape.depth - 1) // 12 for block in (3, 7, 9))


def deepest_first(layers: Sequence[int], shape: BackboneShape) -> tuple[int, ...]:
    """Sort the blocks that a decoder taps.

    Raises:
        ValueError: if there is none, one twice, or one that the backbone does not have.
    """
    if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(range(shape.depth)):
        raise ValueError(
            f"layers {list(layers)} must be different blocks of the backbone's 0 to "
            f"{shape.depth - 1}: set those of the decoder"
        )
    return tuple(sorted(layers, reverse=True))


def film(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Modulate tokens (P, 1 + N, D) by scale and shift (P, D): plain products, no 1 + scale."""
    return scale[:, None] * tokens + shift[:, None]


def patch_grid(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Drop the CLS token and lay the others out: (P, 1 + N, D) to (P, D, height, width)."""
    return tokens[:, 1:].transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def simple_head(dim: int, patch_size: int) -> nn.Module:
    """One linear map from a token to its patch of logits."""
    return nn.ConvTranspose2d(dim, 1, patch_size, patch_size)


def refined_head(dim: int, patch_size: int) -> nn.Module:
    """The authors' `complex_trans_conv`, with strides that multiply to the patch size.

    At patch 16 the strides are 4 and 4 as published. The authors' rule (patch / 4 twice) leaves
    gaps at any other size; here the first stride is the smallest divisor of at least its root.
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
