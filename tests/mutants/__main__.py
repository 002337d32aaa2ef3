"""Do the tests notice careless edits? python -m tests.mutants [--jobs 2] [--timeout 60].

Every mutant of the table is applied to a copy of the tracked files, never to the files themselves,
and its tests are run on it. They must fail.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import Phase, settings

import tests.conftest  # noqa: F401 - what takes long to import is imported once, and forked
from tests.mutants.table import MUTANTS, Mutant

REPOSITORY = Path(__file__).parents[2]
OPTIONS = ["-x", "-q", "-n", "0", "-p", "no:randomly", "--hypothesis-profile", "one failure"]
FORK = multiprocessing.get_context("fork")


def applied(mutant: Mutant, code: str) -> str:
    """The code with the mutant in it.

    Raises:
        ValueError: if the text is not found exactly once.
    """
    if code.count(mutant.source) != 1:
        raise ValueError(f"{mutant.file}: found {code.count(mutant.source)} of {mutant.source!r}")
    return code.replace(mutant.source, mutant.replacement)


def copy_tracked(folder: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / name, folder / name)


def run_tests(folder: Path, tests: str) -> None:
    """Be a process that knows the copy's modules only, and ends with pytest's exit status."""
    os.setsid()  # with all that the tests start
    with (folder / "log").open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"], sys.dont_write_bytecode = str(folder), True
    sys.path.insert(0, str(folder))
    for name in list(sys.modules):
        if name.split(".")[0] in ("tests", "clipseg_pl", "datamodules"):
            del sys.modules[name]
    phases = (Phase.explicit, Phase.generate)  # any failure will do, it need not be a simple one
    settings.register_profile("one failure", phases=phases, derandomize=True, database=None)
    code = pytest.main([*OPTIONS, *tests.split()])
    sys.stdout.flush()
    os._exit(code)


def outcome(folder: Path, tests: str, timeout: float) -> tuple[bool, str]:
    """Whether the tests passed, and what ended them.

    Raises:
        RuntimeError: if they were not run.
    """
    process = FORK.Process(target=run_tests, args=(folder, tests))
    process.start()
    process.join(timeout)
    if process.is_alive():
        assert process.pid is not None
        os.killpg(process.pid, 9)
        process.join()
        return False, f"a hang of {timeout:g} s"
    log = (folder / "log").read_text(errors="replace")
    if process.exitcode not in (0, 1, 2) and process.exitcode >= 0:
        raise RuntimeError(f"pytest {tests} ended with {process.exitcode}:\n{log[-3000:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", log, re.MULTILINE)
    return process.exitcode == 0, failed[1] if failed else f"exit status {process.exitcode}"


def examine(folder: Path, timeout: float, mutant: Mutant) -> tuple[bool, str]:
    """Apply to this process's own copy, test, revert."""
    copy = folder / str(os.getpid())
    if not copy.exists():
        copy_tracked(copy)
    file = copy / mutant.file
    code = file.read_text()
    file.write_text(applied(mutant, code))
    try:
        return outcome(copy, mutant.tests, timeout)
    finally:
        file.write_text(code)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for a mutant's tests")
    options = parser.parse_args()
    began, survivors = monotonic(), 0
    try:
        for mutant in MUTANTS:
            applied(mutant, (REPOSITORY / mutant.file).read_text())
    except ValueError as refusal:
        print(refusal)
        return 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_tracked(folder / "unmutated")
        every = " ".join(dict.fromkeys(test for m in MUTANTS for test in m.tests.split()))
        passed, failed = outcome(folder / "unmutated", every, 600)
        if not passed:
            print(f"the tests fail without a mutant: {failed}")
            return 1
        with ProcessPoolExecutor(options.jobs, FORK) as pool:
            found = pool.map(partial(examine, folder, options.timeout), MUTANTS)
            for mutant, (survived, by) in zip(MUTANTS, found, strict=True):
                survivors += survived
                edit = f"{mutant.file}: {mutant.source.strip()!r} -> {mutant.replacement.strip()!r}"
                print(f"SURVIVED {edit}" if survived else f"killed   {edit} by {by}", flush=True)
    print(f"{len(MUTANTS)} mutants, {survivors} survived, {monotonic() - began:.0f} s")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
