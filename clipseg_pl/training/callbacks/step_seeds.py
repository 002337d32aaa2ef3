"""Seeds for random numbers that training uses on its device (dropout)."""

from typing import Any

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer

from clipseg_pl.sample import Batch


class StepSeeds(Callback):
    """Seeds torch at each training step from (seed, step, rank).

    The seed in a checkpoint is therefore the complete state of these random numbers. Resuming,
    validating or starting a data worker does not change the random numbers of the next step.
    The random choices of a sample are seeded in a similar way, see `PromptedDataset`.
    """

    def __init__(self) -> None:
        """Start without a seed; it comes from the process or from a checkpoint."""
        self.seed: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Use the seed of the process, unless a checkpoint has provided one."""
        if self.seed is None:
            self.seed = torch.initial_seed()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Seed torch for this step."""
        assert self.seed is not None
        sequence = np.random.SeedSequence([self.seed, batch_idx, trainer.global_rank])
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return the seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seed of the original run."""
        self.seed = state_dict["seed"]
