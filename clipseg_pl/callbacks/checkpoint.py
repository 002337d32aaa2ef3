"""Checkpoints that know their own folder."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class Checkpoint(ModelCheckpoint):
    """Goes on from a run that lies elsewhere now; lightning's forgets what its best was."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the files in the run's folder for those that were saved, if they are there."""
        folder = Path(str(self.dirpath))
        here = folder / Path(state_dict["best_model_path"]).name
        if here.is_file():
            best = {str(here): score for score in state_dict["best_k_models"].values()}
            paths = {key: str(here) for key in ("best_model_path", "kth_best_model_path")}
            state_dict = {**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath}
        super().load_state_dict(state_dict)
