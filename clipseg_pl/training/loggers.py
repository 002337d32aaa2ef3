"""The one place that knows Weights & Biases."""

import os

import wandb
from lightning.pytorch.loggers import WandbLogger


class WeightsAndBiases(WandbLogger):
    """Logs online where a key is at hand, else offline; never asks for one.

    Args:
        project: name of the project.
        name: of the run; drawn by the server if not given.
        save_dir: folder for its files; the command line gives that of the run.
    """

    def __init__(
        self, project: str = "clipseg_pl", name: str | None = None, save_dir: str | None = None
    ) -> None:
        """Choose between online and offline."""
        mode = os.environ.get("WANDB_MODE")
        wants_key = mode not in ("offline", "disabled")
        offline = mode == "offline" or (wants_key and not wandb.login(prompt=False))
        folder = save_dir or "."
        os.makedirs(folder, exist_ok=True)
        super().__init__(
            name=name,
            save_dir=folder,
            project=project,
            offline=offline,
            # lightning's own way, an environment variable, is read too early to count
            mode="offline" if offline else None,
        )
