"""CLIP's text tower, with a memory for the texts that it has read."""

import warnings
from collections import OrderedDict
from collections.abc import Sequence

import torch
from open_clip.model import CLIP
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.models.attention import run_block
from clipseg_pl.weights.clip import build_tokenizer

_SHOWN = 80  # letters of a text in a warning
_CPU, _GPU = (4, 4), (64, 16)
"""texts at once, and what their lengths are rounded up to; see `TextEncoder`"""


class TextEncoder:
    """Embeds texts with the text tower of a CLIP, whose weights stay where they are.

    An embedding depends on its text alone, to the last bit: not on what was asked for before or
    beside it, by which rank, or since a resume. Libraries choose how to sum by the sizes of
    matrices, so the tower is only run on a fixed number of texts, rows of zeros among them where
    there are fewer, of a length that each of them would have alone. That a row's place among them
    changes nothing is tested on CPUs; GPUs were not tried. With another number of threads the last
    bits may be others. On a CPU few at once cost no more than many, and one alone less; a GPU
    wants many.

    Args:
        clip: its text tower is read; it may have lost the one for images.
        name: of the CLIP, which says what vocabulary it has.
        cache_size: how many embeddings to keep; training repeats its phrases.
    """

    def __init__(self, clip: CLIP, name: str, cache_size: int) -> None:
        """Find the tokenizer."""
        self.clip, self.cache_size = clip, cache_size
        self.tokenizer = build_tokenizer(name, clip.context_length)
        self._cache: OrderedDict[str, Tensor] = OrderedDict()

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, raw (not L2-normalised): (len(texts), C).

        A text longer than CLIP's context (77 tokens, the toy CLIP's 24) is cut, with a warning.
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
                        cache[missing[row]] = embedding.clone()  # a view would keep all
        for text in texts:
            cache.move_to_end(text)
        embeddings = torch.stack([cache[text].to(device) for text in texts])
        while len(cache) > self.cache_size:
            cache.popitem(last=False)
        return embeddings

    def _encode(self, tokens: Tensor) -> Tensor:
        """Embed token ids (N, length): (N, C). Causal, so what follows an end changes nothing."""
        clip = self.clip
        with torch.autocast(tokens.device.type, enabled=False):  # whoever asks first
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
                    f"CLIP reads the first {longest} tokens only of {shown!r}", stacklevel=5
                )
