"""CLIP-Deconv, the paper's baseline without a transformer in the decoder."""

from collections.abc import Sequence

from torch import Tensor, nn

from clipseg_pl.models.backbone import BackboneShape
from clipseg_pl.models.decoder import (
    Decoder,
    deepest_first,
    default_layers,
    film,
    patch_grid,
    simple_head,
)


class DeconvDecoder(Decoder):
    """Reads each patch by itself, off one block of the backbone.

    Projection, FiLM, an MLP with one hidden layer, a transposed convolution of patch size.
    139,585 parameters on ViT-B/16.

    Args:
        shape: sizes of the backbone.
        layer: the tapped block, counted from 0. By default the authors' 9 of 12, or its like in
            another depth (`default_layers`).
        dim: width D of the decoder's tokens.
        hidden: hidden width of the MLP.

    Raises:
        ValueError: a layer that the backbone does not have.

    Reference: paper section 5, baselines. The MLP is in the authors' code only.
    """

    def __init__(
        self, shape: BackboneShape, *, layer: int | None = None, dim: int = 64, hidden: int = 64
    ) -> None:
        """Build the decoder with torch's default initialisation."""
        super().__init__()
        if min(dim, hidden) < 1:
            raise ValueError(f"the decoder's dim {dim} and hidden {hidden} must be >= 1")
        self.layers = deepest_first([default_layers(shape)[-1] if layer is None else layer], shape)
        self.projection = nn.Linear(shape.width, dim)
        self.film_scale = nn.Linear(shape.embed_dim, dim)
        self.film_shift = nn.Linear(shape.embed_dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.head = simple_head(dim, shape.patch_size)

    def project(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Map the activations (B, 1 + N, width) to (B, 1 + N, D)."""
        return [self.projection(tokens) for tokens in activations]

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
        logits: Tensor = self.head(patch_grid(self.mlp(tokens), grid))
        return logits
