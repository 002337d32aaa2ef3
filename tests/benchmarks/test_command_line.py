"""Startup time of the command line."""

import subprocess
import sys


def test_help(benchmark, record):
    command = [sys.executable, "-m", "clipseg_pl", "segment", "--help"]
    benchmark.pedantic(
        subprocess.run, (command,), {"check": True, "capture_output": True}, rounds=7
    )
    record("segment --help", benchmark.stats.stats.median, "s", "<= 1")
