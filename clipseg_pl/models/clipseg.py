"""CLIPSeg: a frozen backbone and a trained decoder, for any number of prompts an image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clipseg_pl.models.backbone import Backbone, BackboneShape
from clipseg_pl.models.decoder import Decoder

DecoderFactory = Callable[[BackboneShape], Decoder]

_PROMPTS_AT_ONCE = 64  # that are decoded together in evaluation: 4 MB each at 352 px


class Encoding(NamedTuple):
    """What is kept of B encoded images: everything about them that prompts will need.

    `projected` holds one tensor a tapped layer, deepest first ((B, 1 + N, D) for FiLMDecoder);
    `grid` is the height and width of the images in patches.
    """

    projected: list[Tensor]
    grid: tuple[int, int]


class CLIPSeg(nn.Module):
    """Segments what a conditional vector asks for.

    An image is encoded once; every prompt about it costs one pass of the small decoder.

    Args:
        backbone: frozen encoder.
        decoder: called with the backbone's sizes, builds the decoder.

    Reference: paper section 3.1, Figure 2.
    """

    def __init__(self, backbone: Backbone, decoder: DecoderFactory) -> None:
        """Compose the two."""
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder(backbone.shape)

    def is_stored(self, key: str) -> bool:
        """Whether checkpoints store the weight of that name: not what the backbone's name says."""
        kept = tuple(f"backbone.{name}" for name in self.backbone.kept_state)
        return key.startswith(kept) or not key.startswith("backbone.")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's named tuple has no public name
        """Load the weights of a checkpoint, which does not store the frozen backbone.

        Raises:
            RuntimeError: naming other missing keys, unexpected ones, or wrong shapes.
        """
        result = super().load_state_dict(state_dict, strict=False, assign=assign)
        lost = [key for key in result.missing_keys if self.is_stored(key)]
        if strict and (lost or result.unexpected_keys):
            extra = result.unexpected_keys[:5]
            raise RuntimeError(f"the checkpoint lacks {lost[:5]}, and has too much: {extra}")
        return result

    def encode(self, images: Tensor) -> Encoding:
        """Run the backbone up to the deepest tapped block and project what was tapped.

        Args:
            images: (B, 3, H, W) uint8 RGB, sides multiples of the patch.
        """
        patch = self.backbone.shape.patch_size
        activations = self.backbone.activations(images, self.decoder.layers)
        grid = (images.shape[2] // patch, images.shape[3] // patch)
        return Encoding(self.decoder.project(activations), grid)

    def decode(self, encoding: Encoding, conditional: Tensor, query_index: Tensor) -> Tensor:
        """Segment encoded images: (P, 1, H, W) logits for (P, C) conditional vectors."""
        at_once = max(1, len(conditional)) if self.training else _PROMPTS_AT_ONCE
        parts = zip(
            torch.split(conditional, at_once), torch.split(query_index, at_once), strict=True
        )
        return torch.cat([self.decoder(encoding.projected, *p, encoding.grid) for p in parts])

    def forward(self, images: Tensor, conditional: Tensor, query_index: Tensor) -> Tensor:
        """Segment.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            conditional: (P, C) conditional vectors, see `conditional`.
            query_index: (P,) int64, the image that each of them asks about.

        Returns:
            (P, 1, H, W) logits; their sigmoid is the probability of "belongs to what was asked".
        """
        return self.decode(self.encode(images), conditional, query_index)

    def conditional(
        self,
        text_prompt: Sequence[str],
        visual_prompt: Tensor,
        prompt_index: Tensor,
        mix_weight: Tensor,
    ) -> Tensor:
        """Blend text and visual prompts in CLIP's joint space, on raw embeddings.

        Args:
            text_prompt: P texts.
            visual_prompt: (S, 3, H, W) uint8 support images; S = 0 for text alone.
            prompt_index: (S,) int64, the prompt that each support belongs to; the supports of a
                prompt are averaged.
            mix_weight: (P,) weight of the text, 0 to 1; what is left goes to the supports. A
                prompt without any is its text alone, whatever its weight.

        Returns:
            (P, C) conditional vectors.
        """
        text = self.backbone.embed_text(text_prompt)
        if not len(visual_prompt):
            return text
        return blend(text, self.backbone.embed_image(visual_prompt), prompt_index, mix_weight)


def blend(text: Tensor, supports: Tensor, prompt_index: Tensor, mix_weight: Tensor) -> Tensor:
    """Blend raw embeddings of texts and supports.

    Args:
        text: (P, C).
        supports: (S, C); those of a prompt are averaged.
        prompt_index: (S,) int64, the prompt that each support belongs to.
        mix_weight: (P,) weight of the text, 0 to 1; a prompt without supports is its text alone.

    Returns:
        (P, C) conditional vectors.

    Reference: paper section 3.1, "image-text interpolation".
    """
    count = torch.bincount(prompt_index, minlength=len(text))
    visual = torch.zeros_like(text).index_add_(0, prompt_index, supports.to(text.dtype))
    visual = visual / count.clamp(min=1)[:, None]
    weight = mix_weight.to(text.dtype).masked_fill(count == 0, 1)[:, None]
    return weight * text + (1 - weight) * visual
