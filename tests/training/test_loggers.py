"""Weights & Biases where nobody is logged in."""

import pytest

from tests.command import EXPERIMENTS, arguments, launch


@pytest.mark.slow
def test_without_a_key_runs_are_logged_offline(miniature, tmp_path):
    overlay = EXPERIMENTS / "loggers" / "wandb.yaml"
    nobody = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    unset = {"WANDB_MODE": "", "WANDB_API_KEY": ""}
    launch(*arguments("fit", miniature, tmp_path / "run", configs=(overlay,)), **nobody, **unset)
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
