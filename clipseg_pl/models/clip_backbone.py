"""Frozen CLIP backbone for any open_clip model with a plain ViT."""

import copy
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
    empty_clip,
    find_normalisation,
)
from clipseg_pl.weights.files import first_mismatch


class CLIPBackbone(Backbone):
    """Frozen CLIP that returns the activations of its blocks and raw embeddings.

    Position embeddings are resized to the image, so rectangular images of any size work.

    Args:
        name: name of an open_clip model whose image encoder is a plain ViT (see
            `docs/backbones.md`), or of a `<name>.json` in the folder $CLIPSEG_WEIGHTS.
        tag: open_clip's tag of the pretrained weights; the paper uses "openai".
        pretrained: false for random weights. They are the same for every instance. See
            `docs/deviations.md` (no-clip-pretraining).
        text_cache: number of text embeddings to cache, since the same phrases recur in training.

    Reference: paper, section 3.1.
    """

    stored_state = ("trained_blocks.",)

    def __init__(
        self,
        name: str = PAPERS_CLIP,
        tag: str = PAPERS_TAG,
        pretrained: bool = True,
        text_cache: int = 16384,
    ) -> None:
        """Build CLIP, load its weights and freeze it."""
        super().__init__(*find_normalisation(name, tag))
        self.clip = build_clip(name, tag=tag, pretrained=pretrained)
        self._finish_init(name, text_cache)

    @classmethod
    def from_state_dict(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Self:
        """Build a backbone from a configuration and weights, with CLIP's full vocabulary.

        Args:
            config: open_clip configuration of a plain ViT CLIP.
            state: weights with open_clip's names. Float32 tensors are used without a copy.

        Raises:
            ValueError: if the weights do not fit the configuration.
        """
        backbone = cls.__new__(cls)
        Backbone.__init__(backbone)
        backbone.clip = empty_clip(config)
        try:
            weights = {key: value.float() for key, value in state.items()}
            backbone.clip.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            reason = first_mismatch(error)
            raise ValueError(f"its CLIP does not fit the configuration: {reason}") from error
        backbone._finish_init(PAPERS_CLIP, text_cache=16384)  # with CLIP's full tokenizer
        return backbone

    def _finish_init(self, name: str, text_cache: int) -> None:
        """Create the text encoder, set the shape and freeze."""
        self.text_encoder = TextEncoder(self.clip, name, text_cache)
        self.trained_blocks = nn.ModuleDict()  # by block index; see `unfreeze`
        visual = self.clip.visual
        self.shape = BackboneShape(
            width=visual.conv1.out_channels,
            embed_dim=visual.proj.shape[1],
            patch_size=visual.conv1.stride[0],
            depth=len(visual.transformer.resblocks),
        )
        self.freeze()

    @property
    def quick_gelu(self) -> bool:
        """Whether CLIP uses OpenAI's approximate GELU, x * sigmoid(1.702 x)."""
        return not isinstance(self.clip.visual.transformer.resblocks[0].mlp.gelu, nn.GELU)

    def unfreeze(self, blocks: Sequence[int]) -> None:
        """Make trainable copies of blocks, which `activations` uses in place of the originals.

        The originals stay as they are, and `embed_image` still uses them. Embeddings of visual
        prompts thus stay in the space that they share with those of texts, which come from the
        frozen text encoder. See `docs/deviations.md` (trained-blocks).

        Args:
            blocks: indices of the blocks, from 0.
        """
        layers = self.clip.visual.transformer.resblocks
        copies = {str(index): copy.deepcopy(layers[index]) for index in blocks}
        self.trained_blocks.update(copies)
        self.trained_blocks.requires_grad_()

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return raw (not L2-normalised) text embeddings (len(texts), C). See `TextEncoder`."""
        return self.text_encoder(texts)

    @torch.no_grad()
    def embed_image(self, images: Tensor) -> Tensor:
        """Return the raw (not L2-normalised) embeddings of (N, 3, H, W) uint8 images: (N, C)."""
        *blocks, last = self.clip.visual.transformer.resblocks
        tokens = self.embed_patches(images)
        for block in blocks:
            tokens = run_block(block, tokens)
        # the embedding depends only on the CLS token, so the last block computes no other token
        return self.pool(run_block(last, tokens, queries=1))

    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after each given block: one (B, 1 + N, width) tensor per layer.

        Gradients are computed for `trained_blocks` only.
        """
        grad, trained = torch.is_grad_enabled(), dict(self.trained_blocks)
        tapped = {}
        with torch.no_grad():
            tokens = self.embed_patches(images)
            blocks = self.clip.visual.transformer.resblocks[: max(layers) + 1]
            for index, block in enumerate(blocks):
                with torch.set_grad_enabled(grad and str(index) in trained):
                    tokens = run_block(trained.get(str(index), block), tokens)
                if index in layers:
                    tapped[index] = tokens
        return [tapped[index] for index in layers]

    def embed_patches(self, images: Tensor) -> Tensor:
        """Compute the input tokens of the first block.

        Args:
            images: (B, 3, H, W) uint8 RGB.

        Returns:
            (B, 1 + N, width), CLS token first.
        """
        visual = self.clip.visual
        patches = visual.conv1(self.normalise(images))  # B 3 H W -> B width h w
        positions = resize_position_embedding(visual.positional_embedding, patches.shape[2:])
        tokens = patches.flatten(2).transpose(1, 2)  # B width h w -> B N width
        cls = visual.class_embedding.to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        embedded: Tensor = visual.ln_pre(torch.cat([cls, tokens], 1) + positions.to(tokens.dtype))
        return embedded

    def pool(self, tokens: Tensor) -> Tensor:
        """Map the output of the last block, (B, 1 + N, width), to raw embeddings (B, C)."""
        visual = self.clip.visual
        embeddings: Tensor = visual.ln_post(tokens[:, 0]) @ visual.proj
        return embeddings.float()


def resize_position_embedding(embedding: Tensor, grid: Sequence[int]) -> Tensor:
    """Resize the position embeddings of a square grid to another grid, as the authors do.

    The interpolation is bicubic with align_corners=False and without antialiasing. open_clip and
    timm use antialiasing, which changes the values even if the grid is enlarged: by 8 % from 14 to
    22 patches per side. See `docs/deviations.md` (position-embedding).

    Args:
        embedding: (1 + side * side, width), CLS token first.
        grid: target height and width in patches.

    Returns:
        (1 + height * width, width). The CLS row is unchanged.

    Reference: authors' code, models/clipseg.py.
    """
    side = math.isqrt(len(embedding) - 1)
    if tuple(grid) == (side, side):
        return embedding
    cls, patches = embedding[:1], embedding[1:]
    square = patches.T.reshape(1, -1, side, side)  # N width -> 1 width side side
    resized = F.interpolate(square.float(), tuple(grid), mode="bicubic", align_corners=False)
    return torch.cat([cls, resized[0].flatten(1).T.to(cls.dtype)])
