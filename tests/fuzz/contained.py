"""Many inputs to one reader, in a process of its own that may neither crash, hang nor grow."""

import os
import resource
import signal
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

_SECONDS_EACH = 20
_LONGEST = 3000
"""seconds, of all inputs"""
MEGABYTES = 2048
"""of address space for an input, beyond what its process has; threads reserve half a gigabyte"""

inputs = pytest.mark.parametrize("inputs", [50, pytest.param(3000, marks=pytest.mark.slow)])
"""how many: some in the default run, thousands with -m slow"""


def try_out(read, strategy, inputs, documented=(ValueError, OSError), megabytes=MEGABYTES):
    """Call `read` with inputs; other errors than the documented ones fail, and so does a crash.

    Hypothesis tells the smallest input that was found to fail.
    """

    @settings(
        max_examples=inputs,
        deadline=_SECONDS_EACH * 1000,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def try_one(given):
        try:
            with _limited(megabytes):
                read(given)
        except documented as error:
            assert "\n" not in str(error), "documented errors are one line"

    _in_child(try_one)


@contextmanager
def _limited(megabytes):
    """Let this process grow so much further and no more."""
    here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (here + (megabytes << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _in_child(call):
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reads)
        answer = b""
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            call()
        except BaseException:
            answer = traceback.format_exc()[-6000:].encode(errors="backslashreplace")
        finally:
            os.write(writes, answer)
            os._exit(0)
    os.close(writes)
    began = time.monotonic()
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > _LONGEST:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail(f"not done after {_LONGEST} s")
        time.sleep(0.01)
    with os.fdopen(reads, "rb") as pipe:
        answer = pipe.read().decode()
    assert not os.WIFSIGNALED(status), f"crashed: {signal.Signals(os.WTERMSIG(status)).name}"
    assert not answer, answer
