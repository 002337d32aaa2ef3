"""Export of CLIP's byte-pair vocabulary for transformers and tokenizers."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from clipseg_pl.models.clip_text import TextEncoder
from clipseg_pl.weights.clip import PrunedTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_PADDING = 0  # like CLIP's own tokenizer; tokens after the end token have no effect


def whole_embedding(text: TextEncoder) -> Tensor:
    """Return the token embedding table of a text encoder, with a row for every token of CLIP.

    The table of the toy CLIP is pruned: it has rows for some tokens only. A pruned table is
    expanded: a missing token gets a copy of the row of the padding token, because `PrunedTokenizer`
    replaces missing tokens with the padding token. With the expanded table, CLIP's own tokenizer
    gives the same embeddings.

    Returns:
        (49408, width).

    Raises:
        ValueError: if the table belongs to another vocabulary.
    """
    weight: Tensor = text.clip.token_embedding.weight
    if isinstance(text.tokenizer, PrunedTokenizer):
        weight = weight[text.tokenizer.row.to(weight.device)]
    known = len(vocabulary(text))
    if len(weight) != known:
        raise ValueError(f"the text encoder has {len(weight)} tokens, not CLIP's {known}")
    return weight


def vocabulary(text: TextEncoder) -> dict[str, int]:
    """Return the id of each token by its name, with OpenAI's names of the start and end token."""
    encoder: dict[str, int] = _plain(text).encoder
    last = max(encoder.values())
    special = {last - 1: START, last: END}  # open_clip uses other names
    return {special.get(index, name): index for name, index in encoder.items()}


def merges(text: TextEncoder) -> list[str]:
    """Return the byte-pair merges as "left right", in order of priority."""
    ranks: dict[tuple[str, str], int] = _plain(text).bpe_ranks
    return [" ".join(pair) for pair in sorted(ranks, key=ranks.__getitem__)]


def write_vocabulary(folder: Path, text: TextEncoder) -> None:
    """Write `vocab.json` and `merges.txt` for Hugging Face's `CLIPTokenizer`."""
    (folder / "vocab.json").write_text(json.dumps(vocabulary(text), ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *merges(text)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")


def write_tokenizer(file: Path, text: TextEncoder) -> None:
    """Write a `tokenizer.json` for `tokenizers.Tokenizer.from_file`.

    The `ids` of its `encode` have the length of CLIP's context: start token, text (truncated if
    necessary), end token and padding with zeros.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    ids, length = vocabulary(text), text.clip.context_length
    pairs: list[Any] = [tuple(pair.split()) for pair in merges(text)]
    bpe = models.BPE(ids, pairs, unk_token=END, end_of_word_suffix="</w>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            # CLIP's own tokenizer straightens quotes with ftfy
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
    """Return CLIP's tokenizer, unwrapped from a `PrunedTokenizer` if necessary."""
    tokenizer = text.tokenizer
    return tokenizer.tokenizer if isinstance(tokenizer, PrunedTokenizer) else tokenizer
