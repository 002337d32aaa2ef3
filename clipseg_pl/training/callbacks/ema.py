"""Exponential moving average of the trained weights."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from clipseg_pl.sample import Batch

_CURRENT = "current_model_state"  # the key of lightning's WeightAveraging


class WeightEMA(Callback):
    """Averages the trained weights over the steps, and validates and saves the average.

    Lightning's EMAWeightAveraging would also average the frozen backbone, and store it in every
    checkpoint. In our checkpoints, the average takes the place of the weights. The weights of the
    last step are stored next to it, for resuming. After the training, the model has the average.

    Args:
        decay: share of the average that is kept in each step, in [0, 1). The average covers about
            the last 1 / (1 - decay) steps, which should be a small part of the run.
    """

    def __init__(self, decay: float = 0.999) -> None:
        """Check the decay.

        Raises:
            ValueError: if `decay` is out of range.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay:g}")
        self.decay = decay
        self._weights: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}  # float32, which small updates need
        self._current: dict[str, Tensor] = {}  # weights of the last step, during a validation
        self._step = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the average of a training at the initial weights; evaluations average nothing."""
        averages = stage == "fit"
        self._weights = {
            n: w for n, w in pl_module.named_parameters() if averages and w.requires_grad
        }
        self._average = {name: w.detach().float().clone() for name, w in self._weights.items()}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the device of the model."""
        self._average = {name: w.to(pl_module.device) for name, w in self._average.items()}

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Update the average after an optimizer step, which may be several batches."""
        if trainer.global_step > self._step:
            self._step = trainer.global_step
            for name, weight in self._weights.items():
                self._average[name].lerp_(weight.detach().float(), 1 - self.decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._current = {name: w.detach().clone() for name, w in self._weights.items()}
        self._load(self._average)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Return to the weights of the last step."""
        self._load(self._current)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model; the last checkpoint is already written."""
        self._load(self._average)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store the average as the weights, and the weights of the last step next to it."""
        weights = checkpoint["state_dict"]
        checkpoint[_CURRENT] = {name: weights[name] for name in self._average}
        checkpoint["state_dict"] = weights | self._average

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Resume the average and the weights of the last step.

        If the run had no average before, it starts at the weights of the last step.
        """
        stored = checkpoint["state_dict"]
        for name, average in self._average.items():
            average.copy_(stored[name])
        self._load(checkpoint.get(_CURRENT) or stored)

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last update."""
        return {"step": self._step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step of the last update."""
        self._step = state_dict["step"]

    def _load(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the trained weights."""
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(values[name])
