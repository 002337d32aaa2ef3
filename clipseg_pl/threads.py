"""Set torch's CPU threads through environment variables, which are read when torch is imported."""

import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
_SPINS = "1000"  # less than 0.1 ms


def configure(verbose: bool) -> None:
    """Set the environment variables that the user has not set, and describe them on one line.

    Processes started by this one inherit the variables, and neither change nor describe them.

    Args:
        verbose: Print the line whenever a variable is set. Otherwise, print it only if the number
            of threads changes, because that changes the last bits of results.
    """
    if sys.platform != "linux":  # other builds of torch do not use GNU's OpenMP
        return
    cores = available_cores()
    chosen = choose(os.environ, cores, cpu_quota())
    os.environ.update(chosen)
    first = all(os.environ.get(rank, "0") == "0" for rank in ("RANK", "SLURM_PROCID"))
    if first and (chosen if verbose else "OMP_NUM_THREADS" in chosen):
        print(f"clipseg_pl: {describe(chosen, cores)}", file=sys.stderr)


def choose(environment: Mapping[str, str], cores: int, quota: float) -> dict[str, str]:
    """Choose the number of threads, and how long they wait for each other in a busy loop.

    By default, torch starts a thread per core, even if a container may use fewer. A thread that
    waits for the others spins 300,000 times (up to 20 ms) before it sleeps. If data workers or
    other programs use the machine too, a spinning thread occupies a core that the thread it waits
    for needs.

    Args:
        environment: environment variables. Settings of the user are kept.
        cores: number of cores that this process may run on.
        quota: CPU time that this process may use, in cores; infinite without a limit.

    Returns:
        Environment variables to set; empty if torch's defaults are right.
    """
    chosen = {}
    threads = next(filter(None, map(environment.get, _COUNTS)), None)
    if threads is None:
        threads = str(max(1, math.floor(min(cores, quota))))
        if threads != str(cores):
            chosen["OMP_NUM_THREADS"] = threads
    if threads != "1" and not any(map(environment.get, _WAITING)):
        chosen["GOMP_SPINCOUNT"] = _SPINS
    return chosen


def describe(chosen: Mapping[str, str], cores: int) -> str:
    """Describe the result of `choose` in one line."""
    parts = []
    if threads := chosen.get("OMP_NUM_THREADS"):
        parts.append(f"torch uses {threads} of {cores} cores because of a CPU quota")
    if "GOMP_SPINCOUNT" in chosen:
        parts.append("waiting threads of torch sleep after 1,000 spins, not 300,000")
    return f"{', and '.join(parts)}; set {' and '.join(chosen)} to override"


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float:
    """Return the CPU time that the control groups of this process allow, in cores.

    Args:
        root: folder that contains `proc` and `sys`.

    Returns:
        The smallest quota of the groups and their parents; infinite without a limit.
    """
    return min(_quotas(root), default=math.inf)


def _quotas(root: Path) -> Iterator[float]:
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)  # version 2 lists no controllers
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")  # missing in containers, which mount it as the root
        for folder in (group, *group.parents):
            try:
                if controllers:
                    limit = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                else:
                    limit, period = (folder / "cpu.max").read_text().split()
                if limit.strip() not in ("max", "-1"):
                    yield float(limit) / float(period)
            except OSError:  # no limit in this folder
                pass
            if folder == mount:
                break
