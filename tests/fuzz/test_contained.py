"""The fuzz tests' own container notices what it is there for."""

import os
import signal
import time

import pytest
from hypothesis import strategies as st

from tests.fuzz import contained
from tests.fuzz.contained import try_out


def fails(read, match, **options):
    with pytest.raises((AssertionError, pytest.fail.Exception), match=match):
        try_out(read, st.integers(), 5, **options)


def test_documented_errors_pass():
    def refuse(_):
        raise ValueError("a line")

    try_out(refuse, st.integers(), 5)


def test_other_errors_fail():
    fails(lambda number: 1 // 0, "ZeroDivisionError")


def test_errors_of_two_lines_fail():
    def refuse(_):
        raise ValueError("a line\nand one more")

    fails(refuse, "one line")


def test_memory_is_bounded():
    # more than earlier tests can have freed: memory that this process has is not limited
    fails(lambda number: bytearray(4 << 30), "MemoryError", megabytes=200)


def test_a_crash_is_seen():
    fails(lambda number: os.kill(os.getpid(), signal.SIGKILL), "crashed: SIGKILL")


def test_a_hang_is_seen(monkeypatch):
    monkeypatch.setattr(contained, "_LONGEST", 1)
    fails(lambda number: time.sleep(60), "not done after 1 s")
