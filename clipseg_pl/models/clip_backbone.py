"""Frozen CLIP of any plain-ViT name of open_clip."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from clipseg_pl.models.attention import run_block
from clipseg_pl.models.backbone import Backbone, BackboneShape
from clipseg_pl.models.clip_text import TextEncoder
from clipseg_pl.weights.clip import (
    PAPERS_CLIP,
    PAPERS_TAG,
    build_clip,
    find_normalisation,
    new_clip,
)
from clipseg_pl.weights.files import first_mismatch


class CLIPBackbone(Backbone):
    """CLIP as the paper uses it: frozen, tapped after some of its blocks, embeddings raw.

    Rectangular images of any size work, by resizing the grid of position embeddings.

    Args:
        name: a name of open_clip whose vision tower is a plain ViT (docs/backbones.md), or of a
            `<name>.json` in the folder that the environment variable CLIPSEG_WEIGHTS names.
        tag: which weights of that name; "openai" are the paper's.
        pretrained: false for random weights (always the same ones).
        text_cache: how many text embeddings to keep; training repeats its phrases.

    Reference: paper section 3.1.
    """

    def __init__(
        self,
        name: str = PAPERS_CLIP,
        tag: str = PAPERS_TAG,
        pretrained: bool = True,
        text_cache: int = 16384,
    ) -> None:
        """Build CLIP, load its weights and freeze them."""
        super().__init__(*find_normalisation(name, tag))
        self.clip = build_clip(name, tag=tag, pretrained=pretrained)
        self._settle(name, text_cache)

    @classmethod
    def holding(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """Build a CLIP of which everything is given, with CLIP's whole vocabulary.

        Args:
            config: an open_clip configuration of a plain ViT CLIP.
            state: its weights, by open_clip's names.

        Raises:
            ValueError: if they are of another CLIP.
        """
        backbone = cls.__new__(cls)
        Backbone.__init__(backbone)
        backbone.clip = new_clip(config)
        try:
            backbone.clip.load_state_dict(state)
        except RuntimeError as error:
            raise ValueError(f"its CLIP is another one: {first_mismatch(error)}") from error
        backbone._settle(PAPERS_CLIP, text_cache=16384)  # whose tokenizer is CLIP's own
        return backbone

    def _settle(self, name: str, text_cache: int) -> None:
        """Find the tokenizer, read off the sizes and freeze."""
        self.text_encoder = TextEncoder(self.clip, name, text_cache)
        visual = self.clip.visual
        self.shape = BackboneShape(
            width=visual.conv1.out_channels,
            embed_dim=visual.output_dim,
            patch_size=visual.conv1.stride[0],
            depth=len(visual.transformer.resblocks),
        )
        self.freeze()

    @property
    def quick_gelu(self) -> bool:
        """Whether its activation is OpenAI's x * sigmoid(1.702 x), not the exact GELU."""
        return not isinstance(self.clip.visual.transformer.resblocks[0].mlp.gelu, nn.GELU)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, raw (not L2-normalised): (len(texts), C). See `TextEncoder`."""
        return self.text_encoder(texts)

    @torch.no_grad()
    def embed_image(self, images: Tensor) -> Tensor:
        """Embed (N, 3, H, W) uint8 images whole, raw (not L2-normalised): (N, C)."""
        last = self.shape.depth - 1
        # nothing but the CLS token is read, so the last block asks for nothing else
        block = self.clip.visual.transformer.resblocks[last]
        return self.pool(run_block(block, self._run_blocks(images, [last - 1])[0], queries=1))

    @torch.no_grad()
    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after the given blocks: one (B, 1 + N, width) tensor a layer."""
        return self._run_blocks(images, layers)

    def embed_patches(self, images: Tensor) -> Tensor:
        """What the first block is given: (B, 3, H, W) uint8 to (B, 1 + N, width), CLS first."""
        visual = self.clip.visual
        patches = visual.conv1(self.normalise(images))  # B 3 H W -> B width h w
        positions = resize_position_embedding(visual.positional_embedding, patches.shape[2:])
        tokens = patches.flatten(2).transpose(1, 2)  # B width h w -> B N width
        cls = visual.class_embedding.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        embedded: Tensor = visual.ln_pre(torch.cat([cls, tokens], 1) + positions.to(tokens.dtype))
        return embedded

    def pool(self, tokens: Tensor) -> Tensor:
        """What the last block gives, (B, 1 + N, width), CLS first, to raw embeddings (B, C)."""
        visual = self.clip.visual
        embeddings: Tensor = visual.ln_post(tokens[:, 0]) @ visual.proj
        return embeddings.float()

    def _run_blocks(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        tokens = self.embed_patches(images)
        tapped = {}
        for index, block in enumerate(self.clip.visual.transformer.resblocks[: max(layers) + 1]):
            tokens = run_block(block, tokens)
            if index in layers:
                tapped[index] = tokens
        return [tapped[index] for index in layers]


def resize_position_embedding(embedding: Tensor, grid: Sequence[int]) -> Tensor:
    """Fit position embeddings of a square grid to another grid, as the authors do.

    Plain bicubic, align_corners=False and not antialiased: open_clip's own resize and timm's are
    antialiased, which changes the values even when enlarging (8 % relative at 14 -> 22).

    Args:
        embedding: (1 + side * side, width), CLS first.
        grid: height and width wanted, in patches.

    Returns:
        (1 + height * width, width); the CLS row, and an equal grid, unchanged.
    """
    side = math.isqrt(len(embedding) - 1)
    if tuple(grid) == (side, side):
        return embedding
    cls, patches = embedding[:1], embedding[1:]
    square = patches.T.reshape(1, -1, side, side)  # N width -> 1 width side side
    resized = F.interpolate(square.float(), tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([cls, resized[0].flatten(1).T.to(cls.dtype)])
