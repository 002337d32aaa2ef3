"""The one place that knows Weights & Biases."""

import os

import wandb
from lightning.pytorch.loggers import WandbLogger


class WeightsAndBiases(WandbLogger):
    """Logs online where a key is at hand, else offline; never asks for one.

    Args:
        project: name of the project.
        name: of the run; drawn by the server if not given.
        save_dir: folder for its files.
    """

    def __init__(
        self, project: str = "clipseg_pl", name: str | None = None, save_dir: str = "runs"
    ) -> None:
        """Choose between online and offline."""
        mode = os.environ.get("WANDB_MODE")
        key = os.environ.get("WANDB_API_KEY") or wandb.api.api_key
        offline = mode == "offline" or (mode is None and not key)
        os.makedirs(save_dir, exist_ok=True)
        super().__init__(name=name, save_dir=save_dir, project=project, offline=offline)
