"""Training steps per second with default settings and with manual settings."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[2]
ROUNDS, STEPS = 3, 20
WORKERS = "--data.init_args.num_workers"
MANUAL = {
    "torch's default": ({"GOMP_SPINCOUNT": "300000"}, f"{WORKERS}=1"),  # libgomp's default
    "passive waiting": ({"OMP_WAIT_POLICY": "PASSIVE"}, f"{WORKERS}=1"),
    "one thread": ({"OMP_NUM_THREADS": "1"}, f"{WORKERS}=1"),
    "one thread, no data worker": ({"OMP_NUM_THREADS": "1"}, f"{WORKERS}=0"),
}
"""name -> environment variables and option"""


def steps_per_second(folder: Path, environment: dict[str, str], option: str) -> float:
    """Train on the toy world and return the speed after the first five steps."""
    command = [sys.executable, "-m", "clipseg_pl", "fit", "--config=experiments/pc_plus.yaml"]
    command += ["--config=experiments/toy.yaml", f"--trainer.default_root_dir={folder}", option]
    command += [f"--trainer.max_steps={5 + STEPS}", "--trainer.log_every_n_steps=5"]
    command += ["--trainer.limit_val_batches=0", "--trainer.accelerator=cpu"]
    openmp = ("OMP_", "MKL_", "KMP_", "GOMP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(openmp)}
    reached = {}
    with subprocess.Popen(
        command, cwd=ROOT, env=kept | environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if found := re.match(r"step (\d+)/", line):
                reached[int(found[1])] = time.perf_counter()
    assert process.returncode == 0
    return STEPS / (reached[5 + STEPS] - reached[5])


@pytest.mark.parametrize("busy", [0, 2])
def test_training(benchmark, record, tmp_path, busy):
    speeds = {"default settings": [], **{name: [] for name in MANUAL}}

    def measure():
        for name, speed in speeds.items():
            folder = tmp_path / f"{name}, round {len(speed)}"
            speed.append(steps_per_second(folder, *MANUAL.get(name, ({}, f"{WORKERS}=1"))))

    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        benchmark.pedantic(measure, rounds=ROUNDS)
    finally:
        for other in others:
            other.kill()
            other.wait()
    ours, *manual = (median(speed) for speed in speeds.values())
    detail = ", ".join(f"{name}: {median(speed):.2f} steps/s" for name, speed in speeds.items())
    work = f"training on the toy world beside {busy} busy processes, default and best settings"
    record(work, ours / max(manual), "x", ">= 0.9", detail)
