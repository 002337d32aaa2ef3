"""Callbacks that save the best and the newest checkpoint of a run."""

import math
import signal
import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from clipseg_pl.sample import Batch
from clipseg_pl.training.faults import reject_weights
from clipseg_pl.training.signals import Request, Requests, requeue

_EVERY = 100  # steps between checkpoints, 13 MB each with the paper's decoder


class Best(ModelCheckpoint):
    """Saves the best checkpoint and keeps its score when the run's folder has been moved.

    Lightning's ModelCheckpoint forgets the best score in this case.
    """

    @property
    def state_key(self) -> str:
        """Key of the state in checkpoints, from when this class was called Checkpoint."""
        return super().state_key.replace(type(self).__qualname__, "Checkpoint", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, and look for the best checkpoint in the run's current folder."""
        folder = Path(str(self.dirpath))
        here = folder / Path(state_dict["best_model_path"]).name
        if not here.is_file():
            return  # the best checkpoint was removed: without its score, the next one is saved
        best = {str(here): score for score in state_dict["best_k_models"].values()}
        paths = {key: str(here) for key in ("best_model_path", "kth_best_model_path")}
        state_dict = {**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath}
        super().load_state_dict(state_dict)


class Last(Checkpoint):
    """Saves the newest state, so that an interrupted run can be resumed with `--ckpt_path last`.

    The file is written every 100 steps, before and after each validation, and on a signal. SIGTERM
    saves and ends the run with exit status 143. SIGUSR1 saves; under SLURM, it also requeues the
    job and ends the run. In training, signals take effect at the end of a step, on all ranks at
    once. In a validation, they take effect after the current batch.

    Args:
        file: path of the checkpoint.
    """

    def __init__(self, file: Path) -> None:
        """Start without pending requests."""
        self.file, self.requests = file, Requests()
        self._validates_next = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals until the run ends."""
        self.requests.listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals, and let validations start at the end of a step only."""
        self.requests.listen(trainer)
        every, accumulate = trainer.val_check_batch, trainer.accumulate_grad_batches
        if every is not None:  # None: the validation interval is a time
            trainer.val_check_batch = math.ceil(every / accumulate) * accumulate

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Save every 100 steps and on request."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # checkpoints do not contain accumulated gradients
        request = self.requests.take_from_all_ranks(trainer)
        if _validation_is_next(trainer, batch_idx):
            self.requests.pending = request  # the validation saves before its first batch
            return
        if request or trainer.global_step % _EVERY == 0:
            self._save(trainer, pl_module)
        if request == Request.REQUEUE:
            requeued = trainer.is_global_zero and requeue()
            request = Request(request * trainer.strategy.broadcast(requeued))
        if request:
            self._end(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a state from which a resumed run starts with this validation.

        Nothing is saved before the last validation, because lightning regards a run that has taken
        all its steps as finished and would skip the validation.
        """
        if trainer.sanity_checking:
            return
        reject_weights(pl_module)  # before `Best` saves them
        if trainer.global_step < trainer.max_steps:
            self._validates_next = True
            self._save(trainer, pl_module)
            self._validates_next = False

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Handle a request immediately, because the state was saved before the validation.

        Ranks have different numbers of batches, so they cannot wait for each other here.
        """
        if trainer.sanity_checking:
            return  # nothing to resume from yet: the request is handled after the first step
        request = self.requests.take()
        requeued = request == Request.REQUEUE and trainer.is_global_zero and requeue()
        if request == Request.END or requeued:
            self._end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the validated state."""
        if not trainer.sanity_checking:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after the last step of a run without validation."""
        if not trainer.enable_validation:
            self._save(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mark the validation as started, so that lightning restarts it when the run is resumed."""
        if self._validates_next:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for counts in (progress["total"], progress["current"]):
                counts.update(ready=1, started=1, processed=0, completed=0)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        reject_weights(pl_module)
        trainer.save_checkpoint(self.file, weights_only=False)

    def _end(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            raise SystemExit(0)  # on another status, lightning would kill the first process
        sys.stderr.write("clipseg_pl: stopped by a signal; resume with --ckpt_path last\n")
        raise SystemExit(128 + signal.SIGTERM)


def _validation_is_next(trainer: Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch  # number of batches, or None if the interval is a time
    due = every is not None and (batch_idx + 1) % every == 0
    return trainer.enable_validation and (due or trainer.global_step >= trainer.max_steps)
