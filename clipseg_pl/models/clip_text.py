"""CLIP's text encoder with a cache of embeddings."""

import warnings
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.models.attention import run_block
from clipseg_pl.weights.clip import build_tokenizer
from clipseg_pl.weights.clip_layers import CLIP

_SHOWN = 80  # maximum number of characters of a text in a warning
_CPU, _GPU = (4, 4), (64, 16)
"""number of texts per forward pass, and the number of tokens whose multiples texts are padded to"""


class TextEncoder:
    """Embeds texts with the text encoder of a CLIP model.

    The embedding of a text depends only on the text, bit for bit. It does not depend on the other
    texts of a call, on earlier calls, on the rank or on resuming. Matrix libraries choose the order
    of summation by the size of the matrices. For this reason every forward pass has a fixed number
    of texts (filled up with rows of zeros), and a text is always padded to the same length. Tests
    check this on CPUs; GPUs are untested. Another number of threads can change the last bits.

    On a CPU, small batches cost no more per text than large ones. A GPU needs large batches.

    Args:
        clip: model that provides the text encoder; its image encoder may be missing.
        name: name of the CLIP, which determines the vocabulary.
        cache_size: number of embeddings to cache, since the same phrases recur in training.
    """

    def __init__(self, clip: CLIP, name: str, cache_size: int) -> None:
        """Build the tokenizer."""
        self.clip, self.cache_size = clip, cache_size
        self.tokenizer = build_tokenizer(name, clip.context_length)
        self._cache: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return raw (not L2-normalised) embeddings: (len(texts), C).

        Texts longer than CLIP's context (77 tokens; 24 for the toy CLIP) are truncated with a
        warning.
        """
        cache, device = self._cache, self.clip.positional_embedding.device
        missing = list(dict.fromkeys(text for text in texts if text not in cache))
        if missing:
            self._warn_of_truncation(missing)
            tokens = self.tokenizer(missing)
            at_once, step = _CPU if device.type == "cpu" else _GPU
            lengths = (tokens.argmax(1) // step + 1) * step  # the end token has the largest id
            for length in lengths.unique().tolist():
                for rows in (lengths == length).nonzero()[:, 0].split(at_once):
                    fill = 0, 0, 0, at_once - len(rows)
                    embedded = self._encode(F.pad(tokens[rows, :length], fill).to(device))
                    for row, embedding in zip(rows.tolist(), embedded, strict=False):
                        cache[missing[row]] = embedding.clone()  # a view keeps the batch in memory
        for text in texts:
            cache.move_to_end(text)
        embeddings = torch.stack([cache[text].to(device) for text in texts])
        while len(cache) > self.cache_size:
            cache.popitem(last=False)
        return embeddings

    def _encode(self, tokens: Tensor) -> Tensor:
        """Embed token ids (N, length): (N, C).

        Attention is causal, so the padding after the end token does not change the embedding.
        """
        clip = self.clip
        # without autocast, so that cached embeddings are float32
        with torch.autocast(tokens.device.type, enabled=False):
            states = clip.token_embedding(tokens) + clip.positional_embedding[: tokens.shape[1]]
            for block in clip.transformer.resblocks:
                states = run_block(block, states, causal=True)
            last = states[torch.arange(len(tokens)), tokens.argmax(1)]  # N length width -> N width
            embeddings: Tensor = clip.ln_final(last) @ clip.text_projection
        return embeddings

    def _warn_of_truncation(self, texts: Sequence[str]) -> None:
        longest = self.clip.context_length - 2  # start and end token
        for text in texts:
            if len(self.tokenizer.encode(text)) > longest:
                shown = text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
                warnings.warn(
                    f"CLIP uses only the first {longest} tokens of {shown!r}", stacklevel=5
                )
