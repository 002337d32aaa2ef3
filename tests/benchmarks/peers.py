"""Hugging Face's CLIPSeg and ours with the same weights: ViT-B/16, 352 px, random weights."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import CLIPSegForImageSegmentation

from clipseg_pl.convert.key_map import clip_state, decoder_state
from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.sample import Batch, Prompt, Sample, collate
from clipseg_pl.training.module import CLIPSegModule
from tests.models.test_hf_parity import config, randomise

SIDE = 352


class Pair(NamedTuple):
    """The same model in both implementations."""

    ours: CLIPSeg
    theirs: CLIPSegForImageSegmentation


def build_pair(head: str = "simple") -> Pair:
    """Build both models with equal weights and a "simple" or "refined" head."""
    theirs = CLIPSegForImageSegmentation(config(head)).eval()
    randomise(theirs)
    backbone = CLIPBackbone(pretrained=False, text_cache=0)
    backbone.clip.load_state_dict(clip_state(theirs.state_dict()))
    ours = CLIPSeg(backbone, partial(FiLMDecoder, head=head)).eval()
    ours.decoder.load_state_dict(decoder_state(theirs.state_dict()))
    return Pair(ours, theirs)


def draw_images(count: int, side: int = SIDE) -> Tensor:
    """Sample noise images, (count, 3, side, side) uint8."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def draw_batch(prompts: int, per_image: int = 1, supports: bool = True) -> Batch:
    """Build a batch of noise images, each prompt with its own phrase."""
    queries, shown = draw_images(prompts // per_image), draw_images(prompts)
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, 50:200, 80:300] = True
    drawn = [
        Prompt(
            prompt_id=str(number),
            query_mask=mask,
            valid_mask=torch.ones_like(mask),
            phrase="a thing",
            text_prompt=f"a photo of thing number {number}.",
            supports=[shown[number]] if supports else [],
            mix_weight=0.5 if supports else 1.0,
            class_id=-1,
            negative=False,
        )
        for number in range(prompts)
    ]
    return collate(
        [
            Sample(
                query_image=query,
                query_size=(SIDE, SIDE),
                prompts=drawn[per_image * place : per_image * (place + 1)],
            )
            for place, query in enumerate(queries)
        ]
    )


def train_step(module: CLIPSegModule, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    """Run a training step under bf16 autocast, as Lightning does; return the loss."""
    with torch.autocast(module.device.type, torch.bfloat16):
        loss = module.loss(module(batch), batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def in_bf16(work: Callable[[], object]) -> Callable[[], object]:
    """Wrap a function to run under bf16 autocast."""

    def run() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return work()

    return run
