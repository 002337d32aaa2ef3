"""The CLIPSeg model: a frozen backbone and a trained decoder."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clipseg_pl.models.backbone import Backbone, BackboneShape
from clipseg_pl.models.decoder import Decoder

DecoderFactory = Callable[[BackboneShape], Decoder]

_PROMPTS_AT_ONCE = 64  # decoded per forward pass in evaluation; each takes 4 MB at 352 px


class Encoding(NamedTuple):
    """The results for B images that do not depend on the prompts.

    `projected` has one tensor per tapped layer (a block of the backbone whose output the decoder
    uses), deepest first. The shape is (B, 1 + N, D) for FiLMDecoder. `grid` is the height and width
    of the images in patches.
    """

    projected: list[Tensor]
    grid: tuple[int, int]


class CLIPSeg(nn.Module):
    """Segments images for text or visual prompts, given as conditional vectors (CLIP embeddings).

    An image is encoded once. Each further prompt for the image only runs the small decoder.

    Args:
        backbone: frozen encoder.
        decoder: function that builds the decoder from the sizes of the backbone.
        unfreeze_blocks: number of blocks of the backbone to train, counted backwards from the
            deepest tapped layer; see `CLIPBackbone.unfreeze`. The paper's model trains none.

    Raises:
        ValueError: if the backbone has fewer blocks up to the deepest tapped layer, or cannot train
            blocks.

    Reference: paper, section 3.1 and Figure 2.
    """

    def __init__(
        self, backbone: Backbone, decoder: DecoderFactory, unfreeze_blocks: int = 0
    ) -> None:
        """Build the decoder for the backbone."""
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder(backbone.shape)
        used = max(self.decoder.layers) + 1
        if not 0 <= unfreeze_blocks <= used:
            raise ValueError(
                f"unfreeze_blocks must be 0 to {used}, the number of blocks up to the deepest "
                f"tapped layer, not {unfreeze_blocks}"
            )
        if unfreeze_blocks:
            backbone.unfreeze(range(used - unfreeze_blocks, used))
        self.unfreeze_blocks = unfreeze_blocks

    def is_stored(self, key: str) -> bool:
        """Whether checkpoints store the weight with this name.

        Checkpoints leave out the weights that can be reloaded from the name of the backbone.
        """
        stored = tuple(f"backbone.{name}" for name in self.backbone.stored_state)
        return key.startswith(stored) or not key.startswith("backbone.")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's named tuple has no public name
        """Load the weights of a checkpoint, which does not store the frozen backbone.

        Raises:
            RuntimeError: if a stored key is missing, a key is unexpected or shapes differ.
        """
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        missing = [key for key in result.missing_keys if self.is_stored(key)]
        if strict and (missing or result.unexpected_keys):
            extra = result.unexpected_keys[:5]
            raise RuntimeError(
                f"the checkpoint does not fit the model: missing keys {missing[:5]}, "
                f"unexpected keys {extra}"
            )
        return result

    def encode(self, images: Tensor) -> Encoding:
        """Run the backbone up to the deepest tapped layer and project its activations.

        Deeper blocks are skipped. See `docs/deviations.md` (early-exit).

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W are multiples of the patch size.
        """
        patch = self.backbone.shape.patch_size
        activations = self.backbone.activations(images, self.decoder.layers)
        grid = (images.shape[2] // patch, images.shape[3] // patch)
        return Encoding(self.decoder.project(activations), grid)

    def decode(self, encoding: Encoding, conditional: Tensor, query_index: Tensor) -> Tensor:
        """Segment an encoded image for each prompt.

        Args:
            encoding: result of `encode` for B images.
            conditional: (P, C) conditional vectors.
            query_index: (P,) int64, index of the query image of each prompt.

        Returns:
            (P, 1, H, W) logits.
        """
        at_once = max(1, len(conditional)) if self.training else _PROMPTS_AT_ONCE
        parts = zip(
            torch.split(conditional, at_once), torch.split(query_index, at_once), strict=True
        )
        return torch.cat([self.decoder(encoding.projected, *p, encoding.grid) for p in parts])

    def forward(self, images: Tensor, conditional: Tensor, query_index: Tensor) -> Tensor:
        """Segment an image for each prompt.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            conditional: (P, C) conditional vectors; see `CLIPSeg.conditional`.
            query_index: (P,) int64, index of the query image of each prompt.

        Returns:
            (P, 1, H, W) logits. Their sigmoid is the probability that a pixel matches the prompt.
        """
        return self.decode(self.encode(images), conditional, query_index)

    def conditional(
        self,
        text_prompt: Sequence[str],
        visual_prompt: Tensor,
        prompt_index: Tensor,
        mix_weight: Tensor,
    ) -> Tensor:
        """Embed text and visual prompts and interpolate the raw (not L2-normalised) embeddings.

        Args:
            text_prompt: P texts.
            visual_prompt: (S, 3, H, W) uint8 visual prompts; S = 0 for text only.
            prompt_index: (S,) int64, index of the prompt each visual prompt belongs to.
            mix_weight: (P,) weight of the text, 0 to 1; see `blend`.

        Returns:
            (P, C) conditional vectors.
        """
        text = self.backbone.embed_text(text_prompt)
        if not len(visual_prompt):
            return text
        return blend(text, self.backbone.embed_image(visual_prompt), prompt_index, mix_weight)


def blend(text: Tensor, supports: Tensor, prompt_index: Tensor, mix_weight: Tensor) -> Tensor:
    """Interpolate raw embeddings of texts and support images.

    Args:
        text: (P, C) embeddings of the texts.
        supports: (S, C) embeddings of the support images; those of the same prompt are averaged.
        prompt_index: (S,) int64, index of the prompt each support belongs to.
        mix_weight: (P,) weight of the text, 0 to 1; the supports get the rest. It is ignored for
            prompts without supports, which use the text only.

    Returns:
        (P, C) conditional vectors.

    Reference: paper, section 3.1, "image-text interpolation".
    """
    count = torch.bincount(prompt_index, minlength=len(text))
    visual = torch.zeros_like(text).index_add_(0, prompt_index, supports.to(text.dtype))
    visual = visual / count.clamp(min=1)[:, None]
    weight = mix_weight.to(text.dtype).masked_fill(count == 0, 1)[:, None]
    return weight * text + (1 - weight) * visual
