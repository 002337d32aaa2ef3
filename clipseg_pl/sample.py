"""Samples and batches: the interface between `datamodules/` and `clipseg_pl/`.

`datamodules/` turns files into batches; `clipseg_pl/` turns batches into masks.

Axes used throughout the project:

====  =====================================================================================
B     query images of a batch
P     prompts of a batch; each belongs to one query image, and each image has at least one
S     support images of a batch; each belongs to one prompt. The embeddings of all support images
      of a prompt are averaged
H, W  height and width in pixels
N     patch tokens of an image, N = (H / patch) * (W / patch); CLIP adds one CLS token: 1 + N
C     width of CLIP's joint text-image space and of a conditional vector (512 for ViT-B/16)
D     width of the decoder's tokens (`reduce_dim` in the authors' code)
T     thresholds at which metrics are computed
====  =====================================================================================
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict, cast

import torch
from torch import Tensor
from torch.utils.data import default_collate
from typing_extensions import NotRequired

NO_CLASS = -1
"""class id of pixels to ignore in a label map"""


class Classes(NamedTuple):
    """Class names of a dataset."""

    names: tuple[str, ...] = ()
    """indexed by class id; empty if prompts have no class"""
    unseen: frozenset[int] = frozenset()
    """ids of the classes that a zero-shot benchmark reports as unseen"""
    phrasings: tuple[tuple[str, ...], ...] = ()
    """all phrasings of each class, the first of which is its name; empty if the name is the only
    phrasing of each class. A class without phrasings has no prompt: it is the background, the
    pixels that no other class claims"""


class Prompt(TypedDict):
    """One prompt for a query image, with its target mask."""

    prompt_id: str
    """name of the annotation, unique in its split; predictions are stored under this name"""
    query_mask: Tensor
    """(1, H, W) bool, the target; all false if `negative`. Some benchmarks evaluate at a size
    other than the query image's, see `Batch.target_size`. 0 x 0 if the sample has a label map"""
    valid_mask: Tensor
    """(1, H, W) bool, false for pixels to ignore (padding, label 255 in VOC)"""
    phrase: str
    """the annotated phrase, or the sampled phrase if `negative`"""
    text_prompt: str
    """the phrase inside a prefix (a template such as "a photo of a {}."), input of CLIP's text
    encoder"""
    supports: list[Tensor]
    """visual prompts, (3, H, W) uint8 each; empty if no support image exists for the phrase"""
    mix_weight: float
    """weight of the text in the conditional vector, 0 to 1; 1 if there is no support image"""
    class_id: int
    """class id, an index into `Classes.names`; -1 if the data has no classes (PhraseCut)"""
    negative: bool
    """true if nothing in the image matches the phrase: it was sampled to be absent, or is annotated
    as an expression without a target (gRefCOCO)"""


class Sample(TypedDict):
    """One query image with its prompts."""

    query_image: Tensor
    """(3, H, W) uint8 RGB"""
    query_size: tuple[int, int]
    """height and width of the photo in its file"""
    coco_id: NotRequired[int]
    """COCO's id of the photo, added by the data loader; -1 or missing for other photos"""
    prompts: list[Prompt]
    label_map: NotRequired[Tensor]
    """(1, H, W) int16 of `query_size`, the target of all prompts together: class ids, or
    `NO_CLASS` for pixels to ignore"""


class Batch(TypedDict):
    """A batch of samples.

    The prompts of all images are concatenated, and `query_index` maps each to its image. The visual
    prompts of all prompts are concatenated, and `prompt_index` maps each to its prompt.
    """

    query_image: Tensor
    """(B, 3, H, W) uint8 RGB"""
    query_size: Tensor
    """(B, 2) int64, height and width of the photos in their files"""
    coco_id: Tensor
    """(B,) int64, COCO's ids of the photos; -1 for other photos"""
    query_index: Tensor
    """(P,) int64, index of the query image of each prompt"""
    query_mask: Tensor
    """(P, 1, H, W) bool"""
    valid_mask: Tensor
    """(P, 1, H, W) bool"""
    target_size: Tensor
    """(P, 2) int64, height and width of each target. Masks smaller than the largest of the batch
    are padded at the bottom and on the right; `valid_mask` is false in the padding"""
    prompt_id: list[str]
    """P names"""
    phrase: list[str]
    """P phrases without prefixes"""
    text_prompt: list[str]
    """P phrases inside their prefixes"""
    visual_prompt: Tensor
    """(S, 3, H, W) uint8 RGB"""
    prompt_index: Tensor
    """(S,) int64, index of the prompt of each visual prompt"""
    mix_weight: Tensor
    """(P,) float32, weight of the text"""
    class_id: Tensor
    """(P,) int64"""
    negative: Tensor
    """(P,) bool"""
    label_map: NotRequired[Tensor]
    """(B, 1, H, W) int16, class ids. Label maps smaller than the largest of the batch are padded at
    the bottom and on the right with `NO_CLASS`"""


def collate(samples: Sequence[Sample]) -> Batch:
    """Collate samples into a batch.

    Args:
        samples: images of equal size, each with at least one prompt. An empty sequence gives an
            empty batch with images of size 0 x 0.

    Returns:
        The batch. Prompts are in the order of their images, visual prompts in the order of their
        prompts.
    """
    if not samples:
        return _empty_batch()
    # in a data worker, `default_collate` stacks directly into shared memory
    images: Tensor = default_collate([sample["query_image"] for sample in samples])
    prompts = [prompt for sample in samples for prompt in sample["prompts"]]
    counts = torch.tensor([len(sample["prompts"]) for sample in samples])
    supports = [support for prompt in prompts for support in prompt["supports"]]
    per_prompt = torch.tensor([len(prompt["supports"]) for prompt in prompts])
    sizes = torch.tensor([prompt["query_mask"].shape[1:] for prompt in prompts])
    batch = Batch(
        query_image=images,
        query_size=torch.tensor([sample["query_size"] for sample in samples]),
        coco_id=torch.tensor([sample.get("coco_id", -1) for sample in samples]),
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
    label_maps = [sample["label_map"] for sample in samples if "label_map" in sample]
    if label_maps:
        batch["label_map"] = _stack(label_maps, batch["query_size"], NO_CLASS)
    return batch


def _stack(masks: Sequence[Tensor], sizes: Tensor, padding: int = 0) -> Tensor:
    """Stack N masks or label maps (1, h, w) of different sizes into (N, 1, H, W)."""
    height, width = sizes.amax(0).tolist()
    stacked = masks[0].new_full((len(masks), 1, height, width), padding)
    for row, mask in zip(stacked, masks, strict=True):
        row[:, : mask.shape[1], : mask.shape[2]] = mask
    return stacked


def _empty_batch() -> Batch:
    no_image = torch.empty(0, 3, 0, 0, dtype=torch.uint8)
    no_mask = torch.empty(0, 1, 0, 0, dtype=torch.bool)
    none = torch.empty(0, dtype=torch.long)
    return Batch(
        query_image=no_image,
        query_size=none.view(0, 2),
        coco_id=none,
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
    """Return (P,) bool, true for prompts that have at least one support image."""
    present = torch.zeros_like(batch["negative"])
    present[batch["prompt_index"]] = True
    return present


def select_images(batch: Batch, keep: Tensor) -> Batch:
    """Return some images of a batch with their prompts and supports.

    Args:
        batch: a batch with B images.
        keep: (B,) bool, true for the images to return.
    """
    prompts = keep[batch["query_index"]]
    supports = prompts[batch["prompt_index"]]
    masks = dict.fromkeys(("query_image", "query_size", "coco_id", "label_map"), keep)
    masks |= dict.fromkeys(("visual_prompt", "prompt_index"), supports)
    part: dict[str, Any] = {}
    for key, values in batch.items():
        mask = masks.get(key, prompts)
        if isinstance(values, Tensor):
            part[key] = values[mask]
        else:
            assert isinstance(values, list)
            part[key] = [value for value, kept in zip(values, mask.tolist(), strict=True) if kept]
    part["query_index"] = (keep.cumsum(0) - 1)[part["query_index"]]
    part["prompt_index"] = (prompts.cumsum(0) - 1)[part["prompt_index"]]
    return cast(Batch, part)
