"""A training step compared with one by the published recipe, on a GPU if available.

The recipe runs all 12 blocks for query and support images, explicit attention, and texts of 77
tokens. It uses fp16 with loss scaling on a GPU, and bf16 on a CPU, which has no fp16. Every step
has new phrases.
"""

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from clipseg_pl.training.module import CLIPSegModule
from tests.benchmarks.peers import build_pair, draw_batch, train_step

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
BATCH = 64 if CUDA else 4
PEAK_TFLOPS = {"H100": 989, "H200": 989}  # dense bf16, from NVIDIA's data sheets
ROWS = 10

Step = Callable[[], float]


@pytest.fixture(scope="module")
def pair():
    return build_pair()


@pytest.fixture(scope="module")
def batches():
    """Return a generator of batches with the same images and new phrases."""
    batch = draw_batch(BATCH)

    def draw():
        for step in itertools.count():
            phrases = [f"a photo of thing number {step * BATCH + i}." for i in range(BATCH)]
            yield {**batch, "text_prompt": phrases}

    return draw


def on_device(batch):
    return {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def our_step(pair, batches) -> Step:
    """Return our training step; images stay uint8 until they are on the device."""
    ours = copy.deepcopy(pair.ours)
    module = CLIPSegModule(ours.backbone, lambda shape: ours.decoder).to(DEVICE).train()
    optimizer = torch.optim.AdamW(module.model.decoder.parameters(), lr=1e-3, fused=CUDA)

    return lambda: train_step(module, optimizer, on_device(next(batches)))


def published_step(pair, batches) -> Step:
    model = copy.deepcopy(pair.theirs).to(DEVICE).train()
    model.set_attn_implementation("eager")
    tokenizer, clip = pair.ours.backbone.text_encoder.tokenizer, model.clip
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=CUDA)
    batch = next(batches)
    queries, supports = (
        pair.ours.backbone.normalise(batch[name]) for name in ("query_image", "visual_prompt")
    )
    target = batch["query_mask"][:, 0].float()

    def step():
        tokens = tokenizer(next(batches)["text_prompt"]).to(DEVICE)
        images, shown, truth = (x.to(DEVICE) for x in (queries, supports, target))
        with torch.autocast(DEVICE.type, torch.float16 if CUDA else torch.bfloat16):
            with torch.no_grad():
                text = clip.get_text_features(tokens).pooler_output
                visual = clip.get_image_features(shown).pooler_output
            mixed = 0.5 * text + 0.5 * visual
            logits = model(pixel_values=images, conditional_embeddings=mixed).logits
            loss = F.binary_cross_entropy_with_logits(logits.float(), truth)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return step


def peak_memory(build, pair, batches) -> float:
    """Return the peak GPU memory of a training step in GiB."""
    torch.cuda.empty_cache()
    step = build(pair, batches())
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 2**30


def test_training_step(pair, batches, in_turn, record):
    name = f"training step, batch size {BATCH}, {DEVICE.type}"
    if CUDA:
        memory = [peak_memory(build, pair, batches) for build in (our_step, published_step)]
        detail = f"{memory[0]:.1f} GiB against {memory[1]:.1f} GiB"
        record(f"{name}: peak memory", memory[0] / memory[1], "of the recipe's", "<= 0.5", detail)
    ways = {"ours": our_step(pair, batches()), "published": published_step(pair, batches())}
    seconds = in_turn(ways, 20 if CUDA else 5)
    detail = f"{1e3 * seconds['ours']:.0f} ms against {1e3 * seconds['published']:.0f} ms"
    ratio = seconds["published"] / seconds["ours"]
    record(name, ratio, "x", ">= 3" if CUDA else "", detail)
    with FlopCounterMode(display=False) as counter:
        ways["ours"]()
    rate = counter.get_total_flops() / seconds["ours"] / 1e12
    chip = torch.cuda.get_device_name() if CUDA else ""
    peaks = [peak for gpu, peak in PEAK_TFLOPS.items() if gpu in chip]
    share = f"{rate / peaks[0]:.0%} of the chip's {peaks[0]} in bf16" if peaks else ""
    record(f"{name}: arithmetic", rate, "TFLOP/s", detail=share)


def test_time_by_operation(pair, batches, benchmark):
    """Store the operations that take most of the time of a training step."""
    step = our_step(pair, batches())
    step()
    with profile() as found:
        benchmark.pedantic(step, rounds=1)
    kind = "self_device_time_total" if CUDA else "self_cpu_time_total"
    times = {row.key: getattr(row, kind) for row in found.key_averages()}
    whole = sum(times.values())
    largest = sorted(times.items(), key=lambda item: -item[1])[:ROWS]
    benchmark.extra_info["where"] = {name: round(time / whole, 3) for name, time in largest}
