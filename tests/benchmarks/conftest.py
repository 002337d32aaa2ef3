"""Fixtures of the benchmarks, which run only with `pytest tests/benchmarks -n 0`."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest
import torch

Work = Callable[[], object]
NEEDED = ("pytest_benchmark", "skimage", "psutil")
"""packages installed by the extra `benchmarks`"""


@pytest.fixture(scope="session", autouse=True)
def threads():
    """Use all available cores, for our code and for the peers."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))


@pytest.fixture
def one_core():
    """Limit torch and OpenCV to one core."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture
def in_turn(benchmark) -> Callable[..., dict[str, float]]:
    """Time several implementations of the same work in turn, each once per round.

    Other load on the machine then slows all of them down alike.
    """

    def run(ways: Mapping[str, Work], rounds: int) -> dict[str, float]:
        (first, work), *others = ways.items()
        seconds: dict[str, list[float]] = {name: [] for name, _ in others}

        def turn() -> None:
            for name, other in others:
                started = time.perf_counter()
                other()
                seconds[name].append(time.perf_counter() - started)

        benchmark.pedantic(work, setup=turn, rounds=rounds, warmup_rounds=1)
        medians = {name: statistics.median(found[1:]) for name, found in seconds.items()}
        medians[first] = benchmark.stats.stats.median
        benchmark.extra_info["seconds"] = medians
        return medians

    return run


@pytest.fixture
def record(benchmark) -> Callable[..., None]:
    """Store a figure and its goal for the page."""
    benchmark.extra_info["figures"] = []

    def keep(work: str, figure: float, unit: str, goal: str = "", detail: str = "") -> None:
        entry: dict[str, object] = {"work": work, "figure": figure, "unit": unit, "goal": goal}
        entry.update(detail=detail, rounds=benchmark.stats.stats.rounds if benchmark.stats else 1)
        benchmark.extra_info["figures"].append(entry)
        print(f"\n{work}: {figure:.3g} {unit} (goal: {goal or 'none'}) {detail}")

    return keep


def pytest_configure() -> None:
    """Raise UsageError if packages of the extra `benchmarks` are missing."""
    missing = [name for name in NEEDED if not find_spec(name)]
    if missing:
        raise pytest.UsageError(
            f"{', '.join(missing)} not installed: run pip install -e '.[benchmarks]'"
        )


@pytest.hookimpl(optionalhook=True)  # required to run pytest without pytest-benchmark
def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    """Store only hardware that affects speed, and no host name."""
    cpu = machine_info["cpu"]
    assert isinstance(cpu, dict)
    brand = cpu.get("brand_raw", platform.processor())
    machine_info.clear()
    bfloat16 = torch.cpu._is_avx512_bf16_supported()
    instructions = "AVX512-BF16" if bfloat16 else torch.backends.cpu.get_cpu_capability()
    machine_info["cpu"] = f"{brand}, {instructions}, {len(os.sched_getaffinity(0))} threads"
    if torch.cuda.is_available():
        machine_info["gpu"] = torch.cuda.get_device_name()


@pytest.fixture(scope="session")
def photos() -> Path:
    """Return the folder of real PhraseCut photos, below CLIPSEG_REAL_DATA."""
    folder = os.environ.get("CLIPSEG_REAL_DATA")
    if not folder:
        pytest.skip("CLIPSEG_REAL_DATA is not set: this needs real photos, which are not in git")
    return Path(folder) / "phrasecut_coco"
