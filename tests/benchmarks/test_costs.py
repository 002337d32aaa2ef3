"""Time of one photo over the number of prompts, the image size and the batch size, in float32."""

import pytest
import torch

from clipseg_pl.models.clip_backbone import CLIPBackbone
from clipseg_pl.models.clipseg import CLIPSeg
from clipseg_pl.models.decoder import FiLMDecoder
from tests.benchmarks.peers import SIDE, draw_images


@pytest.fixture(scope="module")
def model():
    return CLIPSeg(CLIPBackbone(pretrained=False), FiLMDecoder).eval()


@torch.inference_mode()
def seconds(benchmark, model, images, prompts, side):
    """Return the median time of segmenting `images` photos with `prompts` prompts each."""
    pixels = draw_images(images, side)
    vectors = torch.randn(images * prompts, 512)
    owner = torch.arange(images).repeat_interleave(prompts)
    benchmark.pedantic(model, (pixels, vectors, owner), rounds=3, warmup_rounds=1)
    return benchmark.stats.stats.median


@pytest.mark.parametrize("prompts", [1, 4, 16, 64, 256])
def test_prompts(benchmark, model, prompts):
    found = seconds(benchmark, model, 1, prompts, SIDE)
    benchmark.extra_info["curve"] = {"prompts about a photo": [prompts, found]}


@pytest.mark.parametrize("side", [224, 352, 512, 768, 1024])
def test_side(benchmark, model, side):
    found = seconds(benchmark, model, 1, 1, side)
    benchmark.extra_info["curve"] = {"side of a photo, pixels": [side, found]}


@pytest.mark.parametrize("batch", [1, 2, 4, 8, 16])
def test_batch(benchmark, model, batch):
    found = seconds(benchmark, model, batch, 1, SIDE) / batch
    benchmark.extra_info["curve"] = {"photos a batch, time a photo": [batch, found]}
