"""What goes wrong while a run trains, on purpose."""

import os
import signal
from pathlib import Path

from lightning import Callback


class Signal(Callback):
    """Sends this process a signal in the middle of a step, or of a validation.

    Args:
        number: of the signal.
        step: counted from 1.
        validating: wait for the second batch of the validation after that step.
        rank: of the process that gets it.
    """

    def __init__(self, number: int, step: int, validating: bool = False, rank: int = 0) -> None:
        self.number, self.step, self.validating, self.rank = number, step, validating, rank

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._send(trainer, not self.validating and trainer.global_step + 1 == self.step)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        here = self.validating and batch_idx == 1 and trainer.global_step == self.step
        self._send(trainer, here and not trainer.sanity_checking)

    def _send(self, trainer, now: bool) -> None:
        if now and trainer.global_rank == self.rank:
            os.kill(os.getpid(), signal.Signals(self.number))


class Seen(Callback):
    """Writes down what each step trains on, a line a step and a validation.

    Args:
        file: is appended to.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._write(f"{trainer.global_step} {batch['prompt_id']} {batch['text_prompt']}")

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self._write(f"{trainer.global_step} validated: {pl_module.numbers['val/text/ap_exact']}")

    def _write(self, line: str) -> None:
        with self.file.open("a") as file:
            file.write(line + "\n")
