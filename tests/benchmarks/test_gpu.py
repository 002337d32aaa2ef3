"""Inference, host synchronisations of a training step, and data loading, on a GPU.

`test_training_step.py` compares the time and the memory of the training step with the published
recipe on the same GPU.
"""

import copy
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from clipseg_pl.sample import collate
from clipseg_pl.training.module import CLIPSegModule
from datamodules.phrasecut import PhraseCutDataModule
from datamodules.samplers import TrainingSampler
from tests.benchmarks.peers import build_pair, draw_batch, draw_images

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

DEVICE = torch.device("cuda")
BATCH, ROUNDS, WARM_UP = 64, 20, 5


@pytest.fixture(scope="module")
def pair():
    ours, theirs = build_pair()
    return ours.to(DEVICE), theirs.to(DEVICE)


def latency(work: Callable[[], object]) -> float:
    """Return the median seconds from the call until the GPU has finished."""
    seconds = []
    for _ in range(WARM_UP + ROUNDS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


def back_to_back(work: Callable[[], object]) -> float:
    """Return the seconds per call if calls are queued without waiting for their results."""
    for _ in range(WARM_UP):
        work()
    torch.cuda.synchronize()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(ROUNDS):
        work()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000 / ROUNDS


@pytest.mark.parametrize("photos", [1, 32])
@pytest.mark.parametrize("prompts", [1, 16])
@torch.inference_mode()
def test_inference(pair, photos, prompts, benchmark, record):
    """The peer encodes a photo again for each prompt. Both get uint8 photos on the GPU."""
    ours, theirs = pair
    images = draw_images(photos).to(DEVICE)
    vectors = torch.randn(photos * prompts, 512, device=DEVICE)
    owner = torch.arange(photos, device=DEVICE).repeat_interleave(prompts)

    def our_way():
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return ours(images, vectors, owner)

    def their_way():
        pixels = ours.backbone.normalise(images).repeat_interleave(prompts, 0)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            return theirs(pixel_values=pixels, conditional_embeddings=vectors).logits

    expected = their_way().flatten().float()
    assert (our_way().flatten().float() - expected).abs().mean() < 0.05 * expected.std()
    name = f"GPU, bfloat16, batch of {photos}, {prompts} prompts per photo"

    def compare():
        return {
            "latency": (latency(our_way), latency(their_way)),
            "time per batch": (back_to_back(our_way), back_to_back(their_way)),
        }

    for kind, (mine, peers) in benchmark.pedantic(compare, rounds=1).items():
        detail = f"{1e3 * mine:.2f} ms against {1e3 * peers:.2f} ms, {photos / mine:.0f} photos/s"
        record(f"{name}: {kind}", peers / mine, "x", detail=detail)


def training_step(module: CLIPSegModule, batch: dict, check: Callable[[torch.Tensor], object]):
    """Return a training step that calls `check` with the loss, as `reject_loss` does."""
    optimizer = torch.optim.AdamW(module.model.decoder.parameters(), lr=1e-3, fused=True)

    def step():
        with torch.autocast(DEVICE.type, torch.bfloat16):
            loss = module.loss(module(batch), batch)
        check(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


@pytest.fixture
def module(pair):
    ours = copy.deepcopy(pair[0])
    return CLIPSegModule(ours.backbone, lambda shape: ours.decoder).to(DEVICE).train()


@pytest.fixture
def batch():
    drawn = draw_batch(BATCH)
    return {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in drawn.items()}


@pytest.fixture
def process_group(tmp_path):
    """A process group of size one: a lower bound for the cost of the reduction."""
    torch.distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_cost_of_synchronisations(module, batch, process_group, benchmark, record):
    """The check of the loss, and the reduction of signals over ranks (`take_from_all_ranks`)."""

    def reduce_signals(_: torch.Tensor) -> int:
        pending = torch.tensor(0, device=DEVICE)
        torch.distributed.all_reduce(pending, torch.distributed.ReduceOp.MAX)
        return int(pending)

    step = training_step(module, batch, lambda loss: None)
    plain = benchmark.pedantic(back_to_back, (step,), rounds=1)
    record(f"GPU: training step, batch size {BATCH}", 1e3 * plain, "ms")
    checks = {"isfinite() of the loss": lambda loss: bool(loss.isfinite())}
    for name, check in {**checks, "reduction of signals": reduce_signals}.items():
        seconds = back_to_back(training_step(module, batch, check))
        detail = f"{1e3 * seconds:.2f} ms against {1e3 * plain:.2f} ms"
        record(f"GPU: {name} in every step", 100 * (seconds / plain - 1), "%", "<= 2", detail)


def test_synchronisations_by_place(module, batch, benchmark, record):
    """Count the operations of a training step that wait for the GPU, excluding the loss check."""
    step = training_step(module, batch, lambda loss: None)
    step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        benchmark.pedantic(step, rounds=1)
        torch.cuda.set_sync_debug_mode("default")
    waits = [found for found in caught if "synchronizing" in str(found.message)]
    places = ", ".join(f"{Path(found.filename).name}:{found.lineno}" for found in waits)
    record("GPU: synchronisations in a training step", len(waits), "", detail=places)


def test_data_loading(photos, module, batch, benchmark, record, monkeypatch, tmp_path):
    """Samples per second of the data workers, compared with those of the training step."""
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path))
    workers = len(os.sched_getaffinity(0))
    count = 4 * workers  # twice as many as are loaded ahead
    dataset = PhraseCutDataModule(str(photos)).build("train")
    sampler = TrainingSampler(len(dataset), BATCH, 0, 2 * count)
    loader = DataLoader(
        dataset, batch_sampler=sampler, num_workers=workers, collate_fn=collate, pin_memory=True
    )
    batches = iter(loader)
    for _ in range(count):
        next(batches)
    benchmark.pedantic(next, (batches,), rounds=count)
    loaded = benchmark.stats.stats.mean
    step = back_to_back(training_step(module, batch, lambda loss: None))
    detail = f"{BATCH / loaded:.0f} samples/s against {BATCH / step:.0f}, {workers} workers"
    record("GPU: data loading compared with the training step", step / loaded, "x", ">= 1", detail)
