"""The best and the newest state of a run."""

import math
import signal
import sys
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from clipseg_pl.sample import Batch
from clipseg_pl.training.faults import refuse_weights
from clipseg_pl.training.signals import Request, Requests, requeue

_EVERY = 100  # steps; a checkpoint of the paper's decoder has 13 MB


class Best(ModelCheckpoint):
    """Goes on from a run that lies elsewhere now; lightning's forgets what its best was."""

    @property
    def state_key(self) -> str:
        """Its name in checkpoints, which it had before there was `Last`."""
        return super().state_key.replace(type(self).__qualname__, "Checkpoint", 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the file in the run's folder for the one that was saved, if it is there."""
        folder = Path(str(self.dirpath))
        here = folder / Path(state_dict["best_model_path"]).name
        if not here.is_file():
            return  # the next one is the best there is
        best = {str(here): score for score in state_dict["best_k_models"].values()}
        paths = {key: str(here) for key in ("best_model_path", "kth_best_model_path")}
        state_dict = {**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath}
        super().load_state_dict(state_dict)


class Last(Checkpoint):
    """Keeps the newest state, so that whatever ends a run, `--ckpt_path last` goes on with it.

    It is written every 100 steps, before and after each validation and when a signal asks for it.
    SIGTERM ends the run, with status 143; SIGUSR1 hands its job back to SLURM, where it runs under
    SLURM, and ends it too. Both wait for the end of a step, and for all ranks.

    Args:
        file: where to.
    """

    def __init__(self, file: Path) -> None:
        """Note nothing to have been asked for yet."""
        self.file, self.requests = file, Requests()
        self._validates_next = False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to signals; lightning stops it when the run ends."""
        self.requests.listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same where there is no sanity check; and have it validate between steps only."""
        self.requests.listen(trainer)
        every, accumulate = trainer.val_check_batch, trainer.accumulate_grad_batches
        if every is not None:  # a number of batches, not a time
            trainer.val_check_batch = math.ceil(every / accumulate) * accumulate

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Save now and then, and where it was asked for."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # between two steps: gradients are in no checkpoint
        asked = self.requests.of_all_ranks(trainer)
        if _validation_is_next(trainer, batch_idx):
            self.requests.asked = asked  # validation saves first
            return
        if asked or trainer.global_step % _EVERY == 0:
            self._save(trainer, pl_module)
        if asked == Request.REQUEUE:
            taken = trainer.is_global_zero and requeue()
            asked = Request(asked * trainer.strategy.broadcast(taken))
        if asked:
            self._end(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save a state that validates before it goes on.

        Not before the last validation: lightning takes a run of all its steps for finished.
        """
        if trainer.sanity_checking:
            return
        refuse_weights(pl_module)  # before `Best` saves them
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
        """Leave at once where it was asked for: what there is to save was saved before.

        Ranks have different numbers of batches, so that none can wait for others here.
        """
        if trainer.sanity_checking:
            return  # the first step answers: there is nothing to go on from yet
        asked = self.requests.take()
        taken = asked == Request.REQUEUE and trainer.is_global_zero and requeue()
        if asked == Request.END or taken:
            self._end(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what has been validated."""
        if not trainer.sanity_checking:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step of a run that is not validated."""
        if not trainer.enable_validation:
            self._save(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say in lightning's words that a validation has begun, which it then begins anew."""
        if self._validates_next:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for counts in (progress["total"], progress["current"]):
                counts.update(ready=1, started=1, processed=0, completed=0)

    def _save(self, trainer: Trainer, pl_module: LightningModule) -> None:
        refuse_weights(pl_module)
        trainer.save_checkpoint(self.file, weights_only=False)

    def _end(self, trainer: Trainer) -> None:
        if not trainer.is_global_zero:
            raise SystemExit(0)  # lightning kills the first process where another one fails
        sys.stderr.write("clipseg_pl: ended by a signal; --ckpt_path last goes on\n")
        raise SystemExit(128 + signal.SIGTERM)


def _validation_is_next(trainer: Trainer, batch_idx: int) -> bool:
    every = trainer.val_check_batch  # batches; None where it is a time
    due = every is not None and (batch_idx + 1) % every == 0
    return trainer.enable_validation and (due or trainer.global_step >= trainer.max_steps)
