"""Prompts of all kinds to conditional vectors."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clipseg_pl.images import to_tensor
from clipseg_pl.models.clipseg import CLIPSeg, blend
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt, describe, split
from clipseg_pl.prompts.text import PrefixName, prefix_list

_SUPPORTS_AT_ONCE = 8


class EmbeddedPrompts(NamedTuple):
    """P prompts, read: their names and their (P, C) conditional vectors."""

    names: tuple[str, ...]
    conditional: Tensor


def embed_prompts(
    model: CLIPSeg, prompts: Sequence[Prompt], side: int, prefixes: PrefixName
) -> EmbeddedPrompts:
    """Read words and examples.

    Args:
        model: on its device.
        prompts: at least one, none of them empty.
        side: of the visual prompts in pixels.
        prefixes: sentences that words are put into; the embeddings are averaged.

    Raises:
        ValueError: for no prompt, an empty one or a bare string; for unknown prefixes; for what
            `ImagePrompt.load` refuses.
        UnreadableImageError: naming the file.
    """
    if isinstance(prompts, str | ImagePrompt | Blend):
        raise ValueError(f"prompts is a list, also of one: [{prompts!r}]")
    prompts = list(prompts)
    parts = [split(prompt) for prompt in prompts]
    if not parts:
        raise ValueError("give at least one prompt, none of them empty")
    templates = prefix_list(prefixes)
    sentences = [form.format(text) for text, _, _ in parts for form in templates]
    texts = model.backbone.embed_text(sentences)
    texts = texts.view(len(parts), len(templates), -1).mean(1)  # P T C -> P C
    owners = [row for row, (_, examples, _) in enumerate(parts) for _ in examples]
    names = tuple(map(describe, prompts))
    if not owners:
        return EmbeddedPrompts(names, texts)
    supports = _embed_examples(model, [e for _, examples, _ in parts for e in examples], side)
    weights = torch.tensor([weight for _, _, weight in parts], device=texts.device)
    owner = torch.tensor(owners, device=texts.device)
    return EmbeddedPrompts(names, blend(texts, supports, owner, weights))


def _embed_examples(model: CLIPSeg, examples: Sequence[ImagePrompt], side: int) -> Tensor:
    """(S, C)."""
    device = model.backbone.mean.device
    embedded = []
    for first in range(0, len(examples), _SUPPORTS_AT_ONCE):
        some = [to_tensor(e.engineered(side)) for e in examples[first : first + _SUPPORTS_AT_ONCE]]
        embedded.append(model.backbone.embed_image(torch.stack(some).to(device)))
    return torch.cat(embedded)
