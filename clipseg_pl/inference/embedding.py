"""Convert text and image prompts to conditional vectors, with which the decoder is conditioned."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clipseg_pl.images import to_tensor
from clipseg_pl.models.clipseg import CLIPSeg, blend
from clipseg_pl.prompts.image_prompt import Blend, ImagePrompt, Prompt, describe, split
from clipseg_pl.prompts.text import PrefixName, prefix_list

_BATCH = 8  # support images per forward pass


class EmbeddedPrompts(NamedTuple):
    """Names and conditional vectors (P, C) of P prompts, and their phrases.

    The phrase of a prompt with support images is empty.
    """

    names: tuple[str, ...]
    conditional: Tensor
    phrases: tuple[str, ...]


def embed_prompts(
    model: CLIPSeg, prompts: Sequence[Prompt], side: int, prefixes: PrefixName
) -> EmbeddedPrompts:
    """Embed text prompts, image prompts and blends of both.

    Args:
        model: CLIPSeg model, on its device.
        prompts: at least one prompt, none of them empty.
        side: side length of the visual prompts in pixels.
        prefixes: name of a list of sentence templates. Each text is inserted into all templates,
            and the embeddings of the sentences are averaged.

    Raises:
        ValueError: if there is no prompt, a prompt is empty, `prompts` is a single prompt instead
            of a list, or the prefixes are unknown; see also `ImagePrompt.load`.
        UnreadableImageError: if an image file cannot be read.
    """
    if isinstance(prompts, str | ImagePrompt | Blend):
        raise ValueError(f"prompts must be a list, even for a single prompt: [{prompts!r}]")
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
    phrases = tuple("" if examples else text for text, examples, _ in parts)
    if not owners:
        return EmbeddedPrompts(names, texts, phrases)
    supports = _embed_examples(model, [e for _, examples, _ in parts for e in examples], side)
    weights = torch.tensor([weight for _, _, weight in parts], device=texts.device)
    owner = torch.tensor(owners, device=texts.device)
    return EmbeddedPrompts(names, blend(texts, supports, owner, weights), phrases)


def _embed_examples(model: CLIPSeg, examples: Sequence[ImagePrompt], side: int) -> Tensor:
    """Return the embeddings of S examples (support images with a mask), (S, C)."""
    device = model.backbone.mean.device
    embedded = []
    for first in range(0, len(examples), _BATCH):
        batch = [to_tensor(e.engineered(side)) for e in examples[first : first + _BATCH]]
        embedded.append(model.backbone.embed_image(torch.stack(batch).to(device)))
    return torch.cat(embedded)
