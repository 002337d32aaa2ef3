"""Logger for Weights & Biases. No other module imports wandb."""

import os

import wandb
from lightning.pytorch.loggers import WandbLogger


class WeightsAndBiases(WandbLogger):
    """Logs online if an API key is available and offline otherwise. Never prompts for a key.

    Args:
        project: name of the project.
        name: name of the run; chosen by the server if not set.
        save_dir: folder for wandb's files; the command line sets it to the run's folder.
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
            # for `offline`, lightning sets an environment variable only after wandb has read it
            mode="offline" if offline else None,
        )
