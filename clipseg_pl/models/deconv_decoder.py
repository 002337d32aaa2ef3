"""The decoder of CLIP-Deconv, the paper's baseline without a transformer decoder."""

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
    """Decoder that segments every patch independently, from one layer of the backbone.

    It consists of a linear projection, FiLM (see `FiLMDecoder`), an MLP with one hidden layer and a
    transposed convolution whose kernel has the size of a patch. It has 139,585 parameters on
    ViT-B/16. The MLP is in the authors' code but not in the paper. See `docs/deviations.md`
    (clip-deconv).

    Args:
        shape: sizes of the backbone.
        layer: tapped layer, counted from 0. By default the authors' layer 9 of 12, or its
            equivalent in backbones of another depth (`default_layers`).
        dim: width D of the decoder's tokens.
        hidden: hidden width of the MLP.
        dropout: dropout probability after FiLM. The authors use none.

    Raises:
        ValueError: if the backbone does not have the layer.

    Reference: paper, section 5 (baselines); authors' code.
    """

    def __init__(
        self,
        shape: BackboneShape,
        *,
        layer: int | None = None,
        dim: int = 64,
        hidden: int = 64,
        dropout: float = 0.0,
    ) -> None:
        """Build the decoder with torch's default initialisation."""
        super().__init__()
        if min(dim, hidden) < 1:
            raise ValueError(f"the decoder's dim {dim} and hidden {hidden} must be >= 1")
        self.layers = deepest_first([default_layers(shape)[-1] if layer is None else layer], shape)
        self.projection = nn.Linear(shape.width, dim)
        self.film_scale = nn.Linear(shape.embed_dim, dim)
        self.film_shift = nn.Linear(shape.embed_dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.head = simple_head(dim, shape.patch_size)

    def project(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Map activations (B, 1 + N, width) to tokens (B, 1 + N, D)."""
        return [self.projection(tokens) for tokens in activations]

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
        logits: Tensor = self.head(patch_grid(self.mlp(self.dropout(tokens)), grid))
        return logits
