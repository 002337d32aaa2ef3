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
from collections.abc import Iterator
from multiprocessing.connection import wait
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


class Trial:
    """Tests that run in a process of their own on a copy, with a mutant in it or without."""

    def __init__(self, folder: Path, tests: str, timeout: float, mutant: Mutant | None) -> None:
        self.folder, self.tests, self.mutant = folder, tests, mutant
        if mutant:
            file = folder / mutant.file
            self.code = file.read_text()
            file.write_text(applied(mutant, self.code))
        self.timeout, self.end = timeout, monotonic() + timeout
        self.process = FORK.Process(target=run_tests, args=(folder, tests))
        self.process.start()

    def outcome(self) -> tuple[bool, str] | None:
        """Whether the tests passed, and what ended them; None where they still run.

        Raises:
            RuntimeError: if they were not run.
        """
        if hanging := self.process.is_alive():
            if monotonic() < self.end:
                return None
            os.killpg(self.process.pid, 9)
        self.process.join()
        if self.mutant:
            (self.folder / self.mutant.file).write_text(self.code)
        if hanging:
            return False, f"a hang of {self.timeout:g} s"
        code, log = self.process.exitcode, (self.folder / "log").read_text(errors="replace")
        if code > 2:
            raise RuntimeError(f"pytest {self.tests} ended with {code}:\n{log[-3000:]}")
        failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - |$)", log, re.MULTILINE)
        return code == 0, failed[1] if failed else f"exit status {code}"


def tried(folder: Path, jobs: int, timeout: float) -> Iterator[tuple[Mutant, bool, str]]:
    """Every mutant as it ends, whether it survived, and what killed it."""
    free, waiting, busy = [folder / str(job) for job in range(jobs)], list(MUTANTS), []
    for copy in free:
        copy_tracked(copy)
    while waiting or busy:
        while waiting and free:
            mutant = waiting.pop(0)
            busy.append(Trial(free.pop(), mutant.tests, timeout, mutant))
        wait([trial.process.sentinel for trial in busy], timeout=1)
        for trial in list(busy):
            if ended := trial.outcome():
                busy.remove(trial)
                free.append(trial.folder)
                yield trial.mutant, *ended


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
        unmutated = Trial(folder / "unmutated", every, 600, None)
        unmutated.process.join(600)
        passed, failed = unmutated.outcome()
        if not passed:
            print(f"the tests fail without a mutant: {failed}")
            return 1
        for mutant, survived, by in tried(folder, options.jobs, options.timeout):
            survivors += survived
            edit = f"{mutant.file}: {mutant.source.strip()!r} -> {mutant.replacement.strip()!r}"
            print(f"SURVIVED {edit}" if survived else f"killed   {edit} by {by}", flush=True)
    print(f"{len(MUTANTS)} mutants, {survivors} survived, {monotonic() - began:.0f} s")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
