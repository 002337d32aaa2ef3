"""Learning rate schedule."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class CosineSchedule(LambdaLR):
    """Lowers the learning rates along a cosine, once per training step.

    The rate of the first parameter group ends at `min_lr`. If it starts at or below `min_lr`, it
    stays constant after the warm-up. In the warm-up, the rates rise linearly from almost 0 to their
    initial values, where the cosine starts. The rates of all groups are multiplied by the same
    factor.

    Unlike with torch's CosineAnnealingLR, a run that is resumed with more steps follows the cosine
    of the new length. After the last step, the rates stay constant.

    Args:
        optimizer: optimizer with the initial rates.
        min_lr: rate of the first group at the last step, >= 0.
        steps: number of steps of the whole run, >= 1.
        warmup_steps: number of steps of the warm-up, >= 0; limited to half of the run.
    """

    def __init__(
        self, optimizer: Optimizer, min_lr: float, steps: int, warmup_steps: int = 0
    ) -> None:
        """Set the rates of the first step.

        Raises:
            ValueError: if `min_lr` or `warmup_steps` is negative.
        """
        if min_lr < 0:
            raise ValueError(f"min_lr must be >= 0, got {min_lr:g}")
        if warmup_steps < 0:
            raise ValueError(f"warmup_steps must be >= 0, got {warmup_steps}")
        warmup_steps = min(warmup_steps, steps // 2)
        first = optimizer.param_groups[0]["lr"]
        super().__init__(optimizer, _factor(first, min_lr, steps, warmup_steps))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at the stored step.

        The cosine starts at the rates that the optimizer was created with. They replace the rates
        of the stored run, so that a resumed run can use other learning rates.
        """
        super().load_state_dict({**state_dict, "base_lrs": self.base_lrs})
        groups = self.optimizer.param_groups
        for group, first, factor in zip(groups, self.base_lrs, self.lr_lambdas, strict=True):
            group.update(initial_lr=first, lr=first * factor(self.last_epoch))
        self._last_lr = [group["lr"] for group in groups]


def _factor(rate: float, min_lr: float, steps: int, warmup_steps: int) -> Callable[[int], float]:
    """Return a function that maps a step to the factor to multiply the initial rate by."""
    lowest = min_lr / rate if rate > min_lr else 1.0

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        share = min(1.0, (step - warmup_steps) / (steps - warmup_steps))
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * share)) / 2

    return factor
