"""CLIP's vocabulary cut down to the rows that a small CLIP has."""

from typing import Any

import torch
from torch import Tensor


class PrunedTokenizer:
    """Maps CLIP's token ids to the rows of a smaller embedding table.

    Args:
        tokenizer: the full one, open_clip's `SimpleTokenizer`.
        kept: token ids in row order; ids not among them get the row of the padding, id 0.
    """

    def __init__(self, tokenizer: Any, kept: list[int]) -> None:  # noqa: ANN401 - open_clip's
        """Invert the list of kept ids.

        Raises:
            ValueError: if they do not rise from 0; the end token must stay the largest.
        """
        ids = isinstance(kept, list) and all(type(one) is int for one in kept)
        rising = ids and kept == sorted({0, *kept})
        if not rising or kept[0] < 0 or kept[-1] >= tokenizer.vocab_size:
            raise ValueError("the token ids of a vocabulary must rise, from 0")
        self.tokenizer = tokenizer
        self.row = torch.full((tokenizer.vocab_size,), kept.index(0))
        self.row[torch.tensor(kept)] = torch.arange(len(kept))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text in the full vocabulary, without start and end."""
        ids: list[int] = self.tokenizer.encode(text)
        return ids

    def __call__(self, texts: list[str]) -> Tensor:
        """Rows of the pruned table: (len(texts), context length) int64."""
        return self.row[self.tokenizer(texts)]
