"""CLIP's byte-pair vocabulary, as the files that other programs read."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from clipseg_pl.models.clip_text import TextEncoder
from clipseg_pl.weights.clip import PrunedTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_PADDING = 0  # as CLIP's own tokenizer pads; what follows the end is not read


def whole_embedding(text: TextEncoder) -> Tensor:
    """The embedding table of a text tower with a row for each of CLIP's tokens.

    A pruned one, as the toy CLIP's, is spread out: what it does not know gets the row that its
    tokenizer gives it, so that CLIP's own ids lead to the same numbers.

    Returns:
        (49408, width).

    Raises:
        ValueError: if the table is of another vocabulary.
    """
    weight: Tensor = text.clip.token_embedding.weight
    if isinstance(text.tokenizer, PrunedTokenizer):
        weight = weight[text.tokenizer.row.to(weight.device)]
    known = len(vocabulary(text))
    if len(weight) != known:
        raise ValueError(f"its text tower has {len(weight)} tokens, not CLIP's {known}")
    return weight


def vocabulary(text: TextEncoder) -> dict[str, int]:
    """Id of each token, by the names of OpenAI's files."""
    encoder: dict[str, int] = _plain(text).encoder
    last = max(encoder.values())
    special = {last - 1: START, last: END}  # open_clip has its own names for them
    return {special.get(index, name): index for name, index in encoder.items()}


def merges(text: TextEncoder) -> list[str]:
    """The pairs that are joined, first come first, as "left right"."""
    ranks: dict[tuple[str, str], int] = _plain(text).bpe_ranks
    return [" ".join(pair) for pair in sorted(ranks, key=ranks.__getitem__)]


def write_vocabulary(folder: Path, text: TextEncoder) -> None:
    """Write `vocab.json` and `merges.txt`, which Hugging Face's `CLIPTokenizer` reads."""
    (folder / "vocab.json").write_text(json.dumps(vocabulary(text), ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *merges(text)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")


def write_tokenizer(file: Path, text: TextEncoder) -> None:
    """Write a `tokenizer.json` for `tokenizers.Tokenizer.from_file`, which needs nothing else.

    Its `encode(text).ids` are as long as CLIP's context: start, text (cut if need be), end, zeros.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    ids, length = vocabulary(text), text.clip.context_length
    pairs: list[Any] = [tuple(pair.split()) for pair in merges(text)]
    bpe = models.BPE(ids, pairs, unk_token=END, end_of_word_suffix="</w>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            # as ftfy straightens quotes in CLIP's own
            normalizers.Replace(Regex("[\u02bc\u2018-\u201b]"), "'"),
            normalizers.Replace(Regex("[\u201c-\u201f]"), '"'),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Lowercase(),
        ]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (END, ids[END]), (START, ids[START]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens([START, END])
    tokenizer.enable_truncation(length)
    padding = next(name for name, index in ids.items() if index == _PADDING)
    tokenizer.enable_padding(pad_id=_PADDING, pad_token=padding, length=length)
    tokenizer.save(str(file), pretty=False)


def _plain(text: TextEncoder) -> Any:  # noqa: ANN401 - open_clip has no types
    """CLIP's tokenizer, without a pruned table around it."""
    tokenizer = text.tokenizer
    return tokenizer.tokenizer if isinstance(tokenizer, PrunedTokenizer) else tokenizer
