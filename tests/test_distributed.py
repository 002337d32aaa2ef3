"""Two processes do what one does."""

import os
import subprocess
import sys

import pytest

from tests.command import arguments, results, run
from tests.conftest import REPOSITORY

TWO = ("--trainer.devices=2", "--trainer.strategy=ddp")
EQUAL = ("--model.decoder.init_args.dropout=0",)  # ranks draw different dropout


def launch(*args: str) -> None:
    """Run in a process of its own, which lightning starts again for the second rank."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "clipseg_pl", *args],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_fit_on_two_processes_learns_what_one_learns(miniature, tmp_path):
    run(*arguments("fit", miniature, tmp_path / "one", *EQUAL))
    half = "--data.init_args.batch_size=2"
    launch(*arguments("fit", miniature, tmp_path / "two", *EQUAL, *TWO, half))
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert two["processes"] == 2 and one["processes"] == 1
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-5)


def test_validate_counts_every_prompt_once_on_any_number_of_processes(
    miniature, decoder_file, tmp_path
):
    # 15 samples in batches of 8: two batches, so that the third process has none
    more = ("--data.init_args.batch_size=8", f"--model.init_decoder={decoder_file}")
    run(*arguments("validate", miniature, tmp_path / "one", *more))
    three = (*TWO, "--trainer.devices=3", *more)
    launch(*arguments("validate", miniature, tmp_path / "three", *three))
    one, three = results(tmp_path / "one"), results(tmp_path / "three")
    assert one["metrics"]["val/text/prompts"] == three["metrics"]["val/text/prompts"] == 15
    assert three["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
