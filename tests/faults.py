"""Callbacks that cause faults during a training."""

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
    """Sends a signal to this process in the middle of a step or of a validation.

    Args:
        number: signal number.
        step: step, counted from 1.
        validating: send the signal at the second batch of the validation after this step, or, for
            step 0, at the first batch of the sanity check.
        rank: rank of the process that receives the signal.
        group: also send the signal to data workers, like `timeout` and some batch systems.
    """

    def __init__(
        self, number: int, step: int, validating: bool = False, rank: int = 0, group: bool = False
    ) -> None:
        self.number, self.step, self.validating, self.rank = number, step, validating, rank
        self.group = group
        if group:
            os.setpgrp()  # the signal must not reach the test process

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self._send(trainer, not self.validating and trainer.global_step + 1 == self.step)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        batch = 0 if trainer.sanity_checking else 1
        now = self.validating and batch_idx == batch and trainer.global_step == self.step
        self._send(trainer, now)

    def _send(self, trainer, now: bool) -> None:
        if not now or trainer.global_rank != self.rank:
            return
        if self.group:  # from another process: workers handle SIGTERM of their parent differently
            subprocess.run(["sh", "-c", f"kill -{self.number} 0"])
            time.sleep(1)  # wait until killed workers have ended
        else:
            os.kill(os.getpid(), signal.Signals(self.number))


class Poison(Callback):
    """Makes logits NaN or a weight infinite in one step.

    Args:
        step: step, counted from 1.
        what: "logits" for those of the batch's second prompt, "weights" for a weight of the decoder
            after the step.
    """

    def __init__(self, step: int, what: Literal["logits", "weights"]) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self.what == "logits" and trainer.global_step + 1 == self.step:
            pl_module.model.decoder.register_forward_hook(_poison_second)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if self.what == "weights" and trainer.global_step == self.step:
            pl_module.model.decoder.film_scale.weight.data[0, 0] = torch.inf


def _poison_second(decoder, args, logits):
    return logits.index_fill(0, torch.tensor(1), torch.nan)


class Remove(Callback):
    """Deletes files at the beginning of a step.

    Args:
        step: step, counted from 1.
        files: glob pattern.
    """

    def __init__(self, step: int, files: str) -> None:
        self.step, self.files = step, files

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            for file in glob.glob(self.files):
                Path(file).unlink()


class FullDisk(Callback):
    """Limits the size of files from a step on, like a disk quota.

    Args:
        step: step, counted from 1.
        size: maximal file size in bytes.
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
    """Logs the prompts of each step and the metrics of each validation as lines of JSON.

    Args:
        file: file to append to.
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
