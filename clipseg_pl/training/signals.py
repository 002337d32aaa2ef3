"""Signals that ask a run to save or to end: noticed at once, answered at the end of a step."""

import os
import signal
import subprocess
import sys
import threading
from enum import IntEnum
from types import FrameType

import torch
from lightning import Trainer


class Request(IntEnum):
    """What was asked for; of two, the larger one is answered."""

    NOTHING = 0
    REQUEUE = 1
    """save; under SLURM, hand the job back to be started again"""
    END = 2
    """save and end"""


_MEANING = {"SIGUSR1": Request.REQUEUE, "SIGTERM": Request.END}
"""by name: numbers differ between systems, and Windows lacks the first"""


class Requests:
    """Remembers signals. Lightning answers in the middle of a step, and ranks at different ones."""

    def __init__(self) -> None:
        """Nothing was asked for yet."""
        self.asked = Request.NOTHING

    def listen(self, trainer: Trainer) -> None:
        """Take the place of lightning's handlers, which it removes when the run ends."""
        if trainer.received_sigterm:  # before training began
            self.asked = Request.END

        def note(number: int, frame: FrameType | None) -> None:
            self.asked = max(self.asked, _MEANING[signal.Signals(number).name])
            if trainer.strategy.launcher is not None:  # whose processes were started by this one
                trainer.strategy.launcher.kill(number)

        if threading.current_thread() is threading.main_thread():  # others may not
            for number in signal.valid_signals():
                if isinstance(number, signal.Signals) and number.name in _MEANING:
                    signal.signal(number, note)

    def take(self) -> Request:
        """What this rank was asked for since the last time."""
        asked, self.asked = self.asked, Request.NOTHING
        return asked

    def of_all_ranks(self, trainer: Trainer) -> Request:
        """The same, of any rank: all of them have to call it, and hear the same."""
        asked = self.take()
        if trainer.world_size == 1:
            return asked
        mine = torch.tensor(asked, device=trainer.strategy.root_device)
        return Request(int(trainer.strategy.reduce(mine, reduce_op="max")))


def requeue() -> bool:
    """Hand this job back to SLURM, to be started again; whether SLURM has taken it."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID")
    if array:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not job:
        return False
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        refusal = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        refusal = str(error)
    if refusal:
        sys.stderr.write(f"clipseg_pl: job {job} was not requeued ({refusal}); training goes on\n")
    return not refusal
