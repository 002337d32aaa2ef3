"""What goes wrong while a run trains, on purpose."""

import glob
import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Literal

import torch
from lightning import Callback


class Signal(Callback):
    """Sends this process a signal in the middle of a step, or of a validation.

    Args:
        number: of the signal.
        step: counted from 1.
        validating: wait for the second batch of the validation after that step; after step 0,
            for the first one of the sanity check.
        rank: of the process that gets it.
        group: its workers get it as well, as from `timeout` and some batch systems.
    """

    def __init__(
        self, number: int, step: int, validating: bool = False, rank: int = 0, group: bool = False
    ) -> None:
        self.number, self.step, self.validating, self.rank = number, step, validating, rank
        self.group = group
        if group:
            os.setpgrp()  # so that it does not reach the tests

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._send(trainer, not self.validating and trainer.global_step + 1 == self.step)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        which = 0 if trainer.sanity_checking else 1
        here = self.validating and batch_idx == which and trainer.global_step == self.step
        self._send(trainer, here)

    def _send(self, trainer, now: bool) -> None:
        if not now or trainer.global_rank != self.rank:
            return
        if self.group:  # by another process: workers take it otherwise from their own
            subprocess.run(["sh", "-c", f"kill -{self.number} 0"])
            time.sleep(1)  # for what dies of it
        else:
            os.kill(os.getpid(), signal.Signals(self.number))


class Poison(Callback):
    """Spoils what one step computes.

    Args:
        step: counted from 1.
        what: "logits" of the batch's second prompt, or the decoder's "weights" after the step.
    """

    def __init__(self, step: int, what: Literal["logits", "weights"]) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.what == "logits" and trainer.global_step + 1 == self.step:
            pl_module.model.decoder.register_forward_hook(_without_second)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.what == "weights" and trainer.global_step == self.step:
            pl_module.model.decoder.film_scale.weight.data[0, 0] = torch.inf


def _without_second(decoder, given, logits):
    return logits.index_fill(0, torch.tensor(1), torch.nan)


class Remove(Callback):
    """Deletes all of some files when a step begins.

    Args:
        step: counted from 1.
        files: a glob.
    """

    def __init__(self, step: int, files: str) -> None:
        self.step, self.files = step, files

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            for file in glob.glob(self.files):
                Path(file).unlink()


class FullDisk(Callback):
    """Lets no file grow beyond a size from some step on, as a quota does.

    Args:
        step: counted from 1.
        size: of the largest file, in bytes.
    """

    def __init__(self, step: int, size: int) -> None:
        self.step, self.size = step, size
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def on_exception(self, trainer, pl_module, exception):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


class Seen(Callback):
    """Writes down what each step trains on and each validation finds, as lines of JSON.

    Args:
        file: is appended to.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._write([trainer.global_step, batch["prompt_id"], batch["text_prompt"]])

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self._write([trainer.global_step, pl_module.numbers])

    def _write(self, line: list[object]) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
