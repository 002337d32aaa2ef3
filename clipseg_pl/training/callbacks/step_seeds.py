"""What training draws on its device, that is dropout."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from clipseg_pl.sample import Batch


class StepSeeds(Callback):
    """Seeds torch anew at each step, from (seed, step, rank) alone.

    So the seed in a checkpoint is all there is of the state of its random numbers: neither a
    resume nor a validation or a worker that is started changes what the next step draws. Samples
    are drawn in the same manner, see `PromptedDataset`.
    """

    def __init__(self) -> None:
        """Wait for the seed of the process, or of a checkpoint."""
        self.seed: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the seed of the process, unless a checkpoint has brought one."""
        if self.seed is None:
            self.seed = torch.initial_seed()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seed."""
        assert self.seed is not None
        drawn = np.random.SeedSequence([self.seed, batch_idx, trainer.global_rank])
        torch.manual_seed(int(drawn.generate_state(1, np.uint64)[0]))

    def state_dict(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seed that training began with."""
        self.seed = state_dict["seed"]
