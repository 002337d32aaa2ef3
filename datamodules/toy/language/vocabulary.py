"""A tokeniser over the few BPE tokens that the toy world uses."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from datamodules.toy.language.sentences import all_words

UNKNOWN_ROW = 0  # of padding, too: it follows the end of text, where nothing looks at it


def kept_tokens(texts: Iterable[str]) -> list[int]:
    """BPE token ids in row order.

    The ids rise: 0, which pads and stands for every token that is not kept, then the tokens of
    `texts`, then start and end of text, so the end has the greatest row, as CLIP's pooling needs.
    """
    tokenizer = SimpleTokenizer()
    seen = {token for text in texts for token in tokenizer.encode(text)} - {0}
    return [0, *sorted(seen), tokenizer.sot_token_id, tokenizer.eot_token_id]


class ToyTokenizer:
    """Maps texts to rows of the pruned token embedding.

    Args:
        token_ids: BPE id of every row, as `kept_tokens` gives them.
        context_length: Tokens per text, start and end included; longer texts are cut.
    """

    def __init__(self, token_ids: Sequence[int], context_length: int) -> None:
        self._tokenizer = SimpleTokenizer(context_length=context_length)
        self._rows = np.full(max(token_ids) + 1, UNKNOWN_ROW)
        self._rows[np.asarray(token_ids)] = np.arange(len(token_ids))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Rows (N, context_length) int64 of N texts, zero-padded."""
        return torch.from_numpy(self._rows[self._tokenizer(list(texts)).numpy()])


def toy_vocabulary() -> list[int]:
    """The rows of the shipped toy CLIP, for every text that captions and phrases are made of."""
    return kept_tokens(all_words())
