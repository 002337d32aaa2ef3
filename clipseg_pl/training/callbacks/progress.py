"""Progress of a run: a bar on a terminal, lines in a log file."""

import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar

from clipseg_pl.sample import Batch


class RunProgressBar(RichProgressBar):
    """Progress bar over all steps of a run, because the paper counts steps and not epochs."""

    def _get_train_description(self, current_epoch: int) -> str:
        return "training"


class ProgressLines(ProgressBar):
    """Prints a line every `log_every_n_steps` training steps, on the first process only.

    Example: `step 50/1250  loss 0.123  1.9 steps/s  10 min left`. The rate is the average since
    this process started or resumed training. It includes the time of validations.
    """

    def __init__(self) -> None:
        """Set the clock to zero; `on_train_start` starts it."""
        super().__init__()
        self._prints = True
        self._first_step, self._started = 0, 0.0

    def enable(self) -> None:
        """Print lines."""
        self._prints = True

    def disable(self) -> None:
        """Print no lines. Lightning calls this on every process except the first."""
        self._prints = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._first_step, self._started = trainer.global_step, time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Print a line if the step is a logging step."""
        step, every = trainer.global_step, trainer.log_every_n_steps  # type: ignore[attr-defined]
        between_steps = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not (self._prints and every and step % every == 0 and between_steps):
            return
        loss = float(trainer.callback_metrics["train/loss"])
        rate = (step - self._first_step) / (time.monotonic() - self._started)
        speed = f"{rate:.1f}" if rate >= 1 else f"{rate:.2g}"
        left = _duration((trainer.max_steps - step) / rate)
        print(
            f"step {step}/{trainer.max_steps}  loss {loss:.3f}  {speed} steps/s  {left} left",
            flush=True,
        )


def _duration(seconds: float) -> str:
    """Format a duration, for example as 40 s, 10 min or 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
