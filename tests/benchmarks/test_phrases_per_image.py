"""Training on several phrases per image, which share one encoding of the image."""

from functools import partial

import pytest
import torch

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.training.module import CLIPSegModule
from tests.benchmarks.peers import draw_batch, train_step

PROMPTS = 8


@pytest.mark.parametrize("supports", [False, True])
def test_training_step(in_turn, record, supports):
    module = CLIPSegModule(CLIPBackbone(pretrained=False), FiLMDecoder).train()
    optimizer = torch.optim.AdamW(module.model.decoder.parameters())

    step = partial(train_step, module, optimizer)
    ways = {f"{n} per image": partial(step, draw_batch(PROMPTS, n, supports)) for n in (4, 1)}
    seconds = in_turn(ways, 5)
    rates = {name: PROMPTS / found for name, found in seconds.items()}
    record(
        f"training on 4 phrases per image, {'each with a support' if supports else 'text only'}",
        rates["4 per image"] / rates["1 per image"],
        "x",
        ">= 2.5",
        f"{rates['4 per image']:.1f} prompts/s against {rates['1 per image']:.1f}, bf16",
    )
