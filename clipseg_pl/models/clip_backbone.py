"""Frozen CLIP of any plain-ViT name of open_clip."""

import math
import warnings
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.models.attention import run_block
from clipseg_pl.models.backbone import Backbone, BackboneShape
from clipseg_pl.models.clip_weights import build_clip, build_tokenizer


class CLIPBackbone(Backbone):
    """CLIP as the paper uses it: frozen, tapped after some of its blocks, embeddings raw.

    Rectangular images of any size work, by resizing the grid of position embeddings.

    Args:
        name: a name of open_clip whose vision tower is a plain ViT, or of a `<name>.json` in the
            folder that the environment variable CLIPSEG_WEIGHTS names.
        tag: which weights of that name; "openai" are the paper's.
        pretrained: false for random weights (always the same ones).
        text_cache: how many text embeddings to keep; training repeats its phrases.

    Reference: paper section 3.1.
    """

    def __init__(
        self,
        name: str = "ViT-B-16-quickgelu",
        tag: str = "openai",
        pretrained: bool = True,
        text_cache: int = 16384,
    ) -> None:
        """Build CLIP, load its weights and freeze them."""
        super().__init__()
        self.clip = build_clip(name, tag=tag, pretrained=pretrained)
        self.tokenizer = build_tokenizer(name, self.clip.context_length)
        visual = self.clip.visual
        self.shape = BackboneShape(
            width=visual.conv1.out_channels,
            embed_dim=visual.output_dim,
            patch_size=visual.conv1.stride[0],
            depth=len(visual.transformer.resblocks),
        )
        self.text_cache_size = text_cache
        self._text_cache: OrderedDict[str, Tensor] = OrderedDict()
        self.freeze()

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, raw (not L2-normalised): (len(texts), C).

        A text longer than CLIP's context (77 tokens, the toy CLIP's 24) is cut, with a warning.
        """
        cache = self._text_cache
        missing = list(dict.fromkeys(text for text in texts if text not in cache))
        if missing:
            self._warn_of_truncation(missing)
            tokens = self.tokenizer(missing).to(self.mean.device)
            # what is kept must not depend on who asked first
            with torch.autocast(tokens.device.type, enabled=False):
                embedded = self._encode_text(tokens)
            rows = [row.clone() for row in embedded]  # views would keep the whole batch alive
            cache.update(zip(missing, rows, strict=True))
        for text in texts:
            cache.move_to_end(text)
        embeddings = torch.stack([cache[text].to(self.mean.device) for text in texts])
        while len(cache) > self.text_cache_size:
            cache.popitem(last=False)
        return embeddings

    @torch.no_grad()
    def embed_image(self, images: Tensor) -> Tensor:
        """Embed (N, 3, H, W) uint8 images whole, raw (not L2-normalised): (N, C)."""
        visual, last = self.clip.visual, self.shape.depth - 1
        (tokens,) = self._run_blocks(images, [last - 1])
        # nothing but the CLS token is read, so the last block asks for nothing else
        cls = run_block(visual.transformer.resblocks[last], tokens, queries=1)[:, 0]
        embeddings: Tensor = visual.ln_post(cls) @ visual.proj
        return embeddings.float()

    @torch.no_grad()
    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after the given blocks: one (B, 1 + N, width) tensor a layer."""
        return self._run_blocks(images, layers)

    def _encode_text(self, tokens: Tensor) -> Tensor:
        """Embed token ids (N, context): (N, C)."""
        clip = self.clip
        states = clip.token_embedding(tokens) + clip.positional_embedding
        for block in clip.transformer.resblocks:
            states = run_block(block, states, causal=True)
        # the end token has the largest id
        last = states[torch.arange(len(tokens)), tokens.argmax(1)]  # N context width -> N width
        embeddings: Tensor = clip.ln_final(last) @ clip.text_projection
        return embeddings

    def _run_blocks(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        visual = self.clip.visual
        patches = visual.conv1(self.normalise(images))  # B 3 H W -> B width h w
        positions = resize_position_embedding(visual.positional_embedding, patches.shape[2:])
        tokens = patches.flatten(2).transpose(1, 2)  # B width h w -> B N width
        cls = visual.class_embedding.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = visual.ln_pre(torch.cat([cls, tokens], 1) + positions.to(tokens.dtype))
        tapped = {}
        for index, block in enumerate(visual.transformer.resblocks[: max(layers) + 1]):
            tokens = run_block(block, tokens)
            if index in layers:
                tapped[index] = tokens
        return [tapped[index] for index in layers]

    def _warn_of_truncation(self, texts: Sequence[str]) -> None:
        longest = self.clip.context_length - 2  # start and end token
        for text in texts:
            if len(self.tokenizer.encode(text)) > longest:
                warnings.warn(
                    f"CLIP reads the first {longest} tokens only of {text!r}", stacklevel=3
                )


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
