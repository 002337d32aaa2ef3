"""Weights & Biases where nobody is logged in."""

import os
import subprocess
import sys

from tests.command import arguments
from tests.conftest import REPOSITORY


def test_without_a_key_runs_are_logged_offline(miniature, tmp_path):
    overlay = REPOSITORY / "experiments" / "loggers" / "wandb.yaml"
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "PYTHONPATH": str(REPOSITORY)}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")} | home
    command = [sys.executable, "-m", "clipseg_pl"]
    command += arguments("fit", miniature, tmp_path / "run", configs=(overlay,))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
