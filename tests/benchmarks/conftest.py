"""What the benchmarks share. They are run by `pytest tests/benchmarks -n 0`, and only then."""

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
"""what the extra `benchmarks` installs for them"""


@pytest.fixture(scope="session", autouse=True)
def threads():
    """As many for the peers as for us."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))


@pytest.fixture
def one_core():
    """Neither torch nor OpenCV runs on more."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.fixture
def in_turn(benchmark) -> Callable[..., dict[str, float]]:
    """Times several ways to do the same work, all of them once in every round.

    What else the machine does then slows all of them down.
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
    """Keeps a figure beside its goal, for the page."""
    benchmark.extra_info["figures"] = []

    def keep(work: str, figure: float, unit: str, goal: str = "", detail: str = "") -> None:
        entry: dict[str, object] = {"work": work, "figure": figure, "unit": unit, "goal": goal}
        entry.update(detail=detail, rounds=benchmark.stats.stats.rounds if benchmark.stats else 1)
        benchmark.extra_info["figures"].append(entry)
        print(f"\n{work}: {figure:.3g} {unit} (goal: {goal or 'none'}) {detail}")

    return keep


def pytest_configure() -> None:
    """Name the extra where it is not installed."""
    missing = [name for name in NEEDED if not find_spec(name)]
    if missing:
        raise pytest.UsageError(
            f"{', '.join(missing)}: not installed; pip install -e '.[benchmarks]'"
        )


@pytest.hookimpl(optionalhook=True)  # else pytest itself fails where pytest-benchmark is missing
def pytest_benchmark_update_machine_info(machine_info: dict[str, object]) -> None:
    """Keep what matters to a speed, and no name of a machine."""
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
    """Folder with real PhraseCut photos, named by CLIPSEG_REAL_DATA."""
    given = os.environ.get("CLIPSEG_REAL_DATA")
    if not given:
        pytest.skip("CLIPSEG_REAL_DATA is not set: needs real photos, which are not in git")
    return Path(given) / "phrasecut_coco"
