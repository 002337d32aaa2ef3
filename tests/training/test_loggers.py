"""Logging to Weights & Biases without an API key."""

import pytest

from tests.command import EXPERIMENTS, arguments, launch


@pytest.mark.slow
def test_wandb_logs_offline_without_a_key(miniature, tmp_path):
    overlay = EXPERIMENTS / "loggers" / "wandb.yaml"
    no_login = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none")}
    unset = {"WANDB_MODE": "", "WANDB_API_KEY": ""}
    launch(*arguments("fit", miniature, tmp_path / "run", configs=(overlay,)), **no_login, **unset)
    assert list((tmp_path / "run" / "wandb").glob("offline-run-*"))
