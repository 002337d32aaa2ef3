"""PhraseCut in full size and beyond: synthetic tasks on 71,746 photos, 1.1 kB of JSON each."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FULL, PHOTOS, PHRASES = 310_816, 71_746, 100_000
HEIGHT, WIDTH = 375, 500

BUILD = """
import sys, time
from pathlib import Path
from datamodules.datasets.phrasecut import PhraseCut
started = time.perf_counter()
PhraseCut(Path(sys.argv[1]), "train")
elapsed = time.perf_counter() - started
(peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]  # in kB
print(elapsed, int(peak.split()[1]) / 2**20)
"""
FIRST = """
import sys, time
from datamodules.phrasecut import PhraseCutDataModule
started = time.perf_counter()
data = PhraseCutDataModule(sys.argv[1])
data.datasets["train"] = data.build("train")
data.datasets["train"][0, 1234]
print(time.perf_counter() - started)
"""
WORKERS = """
import sys
import psutil
from torch.utils.data import DataLoader
from clipseg_pl.sample import collate
from datamodules.samplers import TrainingSampler
from datamodules.phrasecut import PhraseCutDataModule
data = PhraseCutDataModule(sys.argv[1])
dataset = data.build("train")
sampler = TrainingSampler(len(dataset), int(sys.argv[2]), 0, 40)
loader = DataLoader(dataset, batch_sampler=sampler, num_workers=2, collate_fn=collate)
batches = iter(loader)
for _ in range(30):
    next(batches)
found = []
for worker in psutil.Process().children():
    sizes = {True: 0, False: 0}
    for part in worker.memory_maps():
        sizes[part.path.endswith(".npy")] += part.private_clean + part.private_dirty
    found.append(sizes)
for of_index in (False, True):
    print(max(sizes[of_index] for sizes in found) / 2**20)
"""


def write_phrasecut(root: Path, tasks: int) -> Path:
    """Write a synthetic PhraseCut whose photos are links to one file; return its task file."""
    folder = root / "VGPhraseCut_v0"
    (folder / "images").mkdir(parents=True)
    photo = np.random.default_rng(0).integers(
        256, size=(HEIGHT // 25, WIDTH // 25, 3), dtype=np.uint8
    )
    Image.fromarray(photo).resize((WIDTH, HEIGHT)).save(root / "photo.jpg")
    for number in range(1, PHOTOS + 1):
        (folder / "images" / f"{number}.jpg").symlink_to(root / "photo.jpg")
    table = [{"image_id": n, "height": HEIGHT, "width": WIDTH} for n in range(1, PHOTOS + 1)]
    (folder / "image_data_split.json").write_text(json.dumps(table))
    with (folder / "refer_train.json").open("w") as file:
        for number in range(tasks):
            file.write(("[" if not number else ",\n") + json.dumps(draw_task(number)))
        file.write("]")
    return folder / "refer_train.json"


def draw_task(number: int) -> dict:
    """Return a random task with the average length of PhraseCut's tasks."""
    rng = np.random.default_rng(number)
    image, phrase = number % PHOTOS + 1, f"thing number {rng.integers(PHRASES)}"
    angle = np.linspace(0, 2 * np.pi, int(rng.integers(20, 74)), endpoint=False)
    radius = rng.uniform(20, 100) * rng.uniform(0.8, 1.2, len(angle))
    outline = np.stack([250 + radius * np.cos(angle), 190 + radius * np.sin(angle)], 1).round(2)
    return {
        "task_id": f"{image}__{number}",
        "image_id": image,
        "ann_ids": [number],
        "instance_boxes": [[150.0, 90.0, 200.0, 200.0]],
        "Polygons": [[outline.tolist()]],
        "phrase": phrase,
        "phrase_structure": {
            "name": phrase,
            "attributes": [],
            "relation_ids": [],
            "relation_descriptions": [],
            "type": "name",
        },
    }


def run_code(code: str, *arguments: Path | str) -> list[float]:
    """Run code in a new process and return the numbers it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


@pytest.mark.parametrize("tasks", [10_000, 100_000, FULL, 1_000_000])
def test_phrasecut(tasks, benchmark, record, monkeypatch, tmp_path):
    monkeypatch.setenv("CLIPSEG_CACHE", str(tmp_path / "cache"))
    size = write_phrasecut(tmp_path, tasks).stat().st_size / 2**20
    full = tasks == FULL
    seconds, peak = run_code(BUILD, tmp_path)
    name = f"PhraseCut, {tasks:,} tasks, {size:.0f} MiB of JSON"
    record(f"{name}: build of the index, once", seconds, "s")
    record(f"{name}: peak memory of the build", peak, "GiB", "< 1.5" if full else "")
    (first,) = benchmark.pedantic(run_code, (FIRST, tmp_path), rounds=1)
    record(f"{name}: from setup to the first sample", first, "s", "< 2" if full else "")
    for batch in (8, 64) if full else (8,):
        private, mapped = run_code(WORKERS, tmp_path, str(batch))
        detail = f"and {mapped:.0f} MiB of mapped index files, which the system can reclaim"
        goal = "< 60" if full and batch == 8 else ""
        work = f"{name}: private memory of a data worker, batch size {batch}"
        record(work, private, "MiB", goal, detail)
    benchmark.extra_info["curve"] = {"to the first sample": [tasks, first]}
