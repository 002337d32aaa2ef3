"""The contract between `datamodules/` (files to batches) and `clipseg_pl/` (batches to masks).

Axes used throughout the project:

====  =====================================================================================
B     query images of a batch
P     prompts of a batch; every prompt asks about one query image (P = B, or several an image)
S     support images of a batch; every support belongs to one prompt (several are averaged)
H, W  height and width in pixels
N     patch tokens of an image, N = (H / patch) * (W / patch); CLIP adds one CLS token: 1 + N
C     width of CLIP's joint text-image space, hence of a conditional vector (512 for ViT-B/16)
D     width of the decoder's tokens (`reduce_dim` in the authors' code)
T     thresholds at which a mask is scored
====  =====================================================================================
"""

from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
from torch import Tensor
from torch.utils.data import default_collate


class Classes(NamedTuple):
    """What the class ids of a dataset stand for."""

    names: tuple[str, ...] = ()
    """by class id; none where prompts have no class"""
    unseen: frozenset[int] = frozenset()
    """ids that a zero-shot benchmark reports apart"""


class Prompt(TypedDict):
    """One question about one query image, and its answer."""

    prompt_id: str
    """name of the annotation, unique in its split; predictions are filed under it"""
    query_mask: Tensor
    """(1, H, W) bool, the target; all false where `negative`. Some benchmarks score at another
    size than the query image's, see `target_size` of a batch"""
    valid_mask: Tensor
    """(1, H, W) bool, false where the annotation is to be ignored (VOC 255, padding)"""
    phrase: str
    """the words as annotated (or as drawn, for a negative)"""
    text_prompt: str
    """the words inside a prefix, what CLIP reads"""
    supports: list[Tensor]
    """visual prompts, (3, H, W) uint8 each; empty where the phrase has no partner"""
    mix_weight: float
    """weight of the text in the conditional vector, 0 to 1; 1 where there is no support"""
    class_id: int
    """class that mIoU averages over; -1 where every prompt counts by itself (PhraseCut)"""
    negative: bool
    """true where the phrase was drawn to be absent from the image"""


class Sample(TypedDict):
    """One query image with everything that is asked about it."""

    query_image: Tensor
    """(3, H, W) uint8 RGB"""
    query_size: tuple[int, int]
    """height and width of the photo on disk"""
    prompts: list[Prompt]


class Batch(TypedDict):
    """Samples side by side; prompts and supports are flat, with an index back to their owner."""

    query_image: Tensor
    """(B, 3, H, W) uint8 RGB"""
    query_size: Tensor
    """(B, 2) int64, height and width of the photos on disk"""
    query_index: Tensor
    """(P,) int64, the image that each prompt asks about"""
    query_mask: Tensor
    """(P, 1, H, W) bool"""
    valid_mask: Tensor
    """(P, 1, H, W) bool"""
    target_size: Tensor
    """(P, 2) int64, height and width of each target: masks smaller than the largest of a batch are
    padded below and to the right, invalid there"""
    prompt_id: list[str]
    """P names"""
    phrase: list[str]
    """P phrases, bare"""
    text_prompt: list[str]
    """P phrases inside their prefixes"""
    visual_prompt: Tensor
    """(S, 3, H, W) uint8 RGB"""
    prompt_index: Tensor
    """(S,) int64, the prompt that each support belongs to"""
    mix_weight: Tensor
    """(P,) float32, weight of the text"""
    class_id: Tensor
    """(P,) int64"""
    negative: Tensor
    """(P,) bool"""


def collate(samples: Sequence[Sample]) -> Batch:
    """Lay samples side by side.

    Args:
        samples: images of one size, each with at least one prompt. None at all make an empty
            batch, of images of no size.

    Returns:
        The batch; prompts keep the order of their images, supports that of their prompts.
    """
    if not samples:
        return _empty_batch()
    # unlike `torch.stack`, in a worker straight into memory that it shares
    images: Tensor = default_collate([sample["query_image"] for sample in samples])
    prompts = [prompt for sample in samples for prompt in sample["prompts"]]
    counts = torch.tensor([len(sample["prompts"]) for sample in samples])
    supports = [support for prompt in prompts for support in prompt["supports"]]
    per_prompt = torch.tensor([len(prompt["supports"]) for prompt in prompts])
    sizes = torch.tensor([prompt["query_mask"].shape[1:] for prompt in prompts])
    return Batch(
        query_image=images,
        query_size=torch.tensor([sample["query_size"] for sample in samples]),
        query_index=torch.arange(len(samples)).repeat_interleave(counts),
        query_mask=_stack([prompt["query_mask"] for prompt in prompts], sizes),
        valid_mask=_stack([prompt["valid_mask"] for prompt in prompts], sizes),
        target_size=sizes,
        prompt_id=[prompt["prompt_id"] for prompt in prompts],
        phrase=[prompt["phrase"] for prompt in prompts],
        text_prompt=[prompt["text_prompt"] for prompt in prompts],
        visual_prompt=default_collate(supports)
        if supports
        else images.new_empty(0, *images.shape[1:]),
        prompt_index=torch.arange(len(prompts)).repeat_interleave(per_prompt),
        mix_weight=torch.tensor([prompt["mix_weight"] for prompt in prompts], dtype=torch.float32),
        class_id=torch.tensor([prompt["class_id"] for prompt in prompts]),
        negative=torch.tensor([prompt["negative"] for prompt in prompts]),
    )


def _stack(masks: Sequence[Tensor], sizes: Tensor) -> Tensor:
    """Lay masks (1, h, w) of given sizes into one (P, 1, H, W), with false around them."""
    height, width = sizes.amax(0).tolist()
    stacked = torch.zeros(len(masks), 1, height, width, dtype=torch.bool)
    for place, mask in zip(stacked, masks, strict=True):
        place[:, : mask.shape[1], : mask.shape[2]] = mask
    return stacked


def _empty_batch() -> Batch:
    no_image = torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    no_mask = torch.empty(0, 1, 0, 0, dtype=torch.bool)
    none = torch.empty(0, dtype=torch.long)
    return Batch(
        query_image=no_image,
        query_size=none.view(0, 2),
        query_index=none,
        query_mask=no_mask,
        valid_mask=no_mask,
        target_size=none.view(0, 2),
        prompt_id=[],
        phrase=[],
        text_prompt=[],
        visual_prompt=no_image,
        prompt_index=none,
        mix_weight=none.float(),
        class_id=none,
        negative=none.bool(),
    )


def has_support(batch: Batch) -> Tensor:
    """Tell which prompts come with a visual prompt: (P,) bool."""
    present = torch.zeros_like(batch["negative"])
    present[batch["prompt_index"]] = True
    return present
