"""Signals that request a save or the end of a run. They are handled at the end of a step."""

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
    """Action that a signal requests. If several are pending, the largest one is handled."""

    NOTHING = 0
    REQUEUE = 1
    """save; under SLURM, also requeue the job"""
    END = 2
    """save and end"""


_REQUESTS = {"SIGUSR1": Request.REQUEUE, "SIGTERM": Request.END}
"""keys are names, because signal numbers differ between systems and Windows lacks SIGUSR1"""


class Requests:
    """Records signals until the run can handle them.

    Lightning handles signals in the middle of a step, and at different steps on different ranks.
    """

    def __init__(self) -> None:
        """Start without a pending request."""
        self.pending = Request.NOTHING

    def listen(self, trainer: Trainer) -> None:
        """Replace lightning's signal handlers. Lightning restores the original ones at the end."""
        if trainer.received_sigterm:  # SIGTERM arrived before this call
            self.pending = Request.END

        def record(number: int, frame: FrameType | None) -> None:
            self.pending = max(self.pending, _REQUESTS[signal.Signals(number).name])
            if trainer.strategy.launcher is not None:  # this process has started the other ranks
                trainer.strategy.launcher.kill(number)

        # Python allows signal handlers in the main thread only
        if threading.current_thread() is threading.main_thread():
            for number in signal.valid_signals():
                if isinstance(number, signal.Signals) and number.name in _REQUESTS:
                    signal.signal(number, record)

    def take(self) -> Request:
        """Return and clear the pending request of this rank."""
        pending, self.pending = self.pending, Request.NOTHING
        return pending

    def take_from_all_ranks(self, trainer: Trainer) -> Request:
        """Return and clear the largest pending request of all ranks. Every rank must call this."""
        pending = self.take()
        if trainer.world_size == 1:
            return pending
        own = torch.tensor(pending, device=trainer.strategy.root_device)
        return Request(int(trainer.strategy.reduce(own, reduce_op="max")))


def requeue() -> bool:
    """Requeue this SLURM job and return whether SLURM has accepted it."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID")
    if array:
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not job:
        return False
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        reason = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        sys.stderr.write(f"clipseg_pl: job {job} was not requeued ({reason}); training continues\n")
    return not reason
