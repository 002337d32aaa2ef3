"""Tokenizer restricted to the few BPE tokens that the toy world uses."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from datamodules.toy.language.sentences import all_words

UNKNOWN_ROW = 0  # also the padding, which no token up to the end of text attends to


def used_tokens(texts: Iterable[str]) -> list[int]:
    """Return the BPE token ids of the vocabulary, one per row of the pruned token embedding.

    The ids ascend: 0 (padding, and every token outside the vocabulary), the tokens of `texts`,
    start of text, end of text. The end of text must have the highest row, because CLIP takes
    the embedding of a text at its highest token.
    """
    tokenizer = SimpleTokenizer()
    seen = {token for text in texts for token in tokenizer.encode(text)} - {0}
    return [0, *sorted(seen), tokenizer.sot_token_id, tokenizer.eot_token_id]


class ToyTokenizer:
    """Maps texts to rows of the pruned token embedding.

    Args:
        token_ids: BPE id of every row, see `used_tokens`.
        context_length: Tokens per text, including start and end; longer texts are truncated.
    """

    def __init__(self, token_ids: Sequence[int], context_length: int) -> None:
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._rows = np.full(max(token_ids) + 1, UNKNOWN_ROW)
        self._rows[np.asarray(token_ids)] = np.arange(len(token_ids))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return the rows of N texts, (N, context_length) int64, padded with zeros."""
        return torch.from_numpy(self._rows[self._tokenizer(list(texts)).numpy()])


def toy_vocabulary() -> list[int]:
    """Return the BPE token ids of the shipped toy CLIP, which cover all captions and phrases."""
    return used_tokens(all_words())
