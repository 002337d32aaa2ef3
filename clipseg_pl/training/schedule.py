"""The learning rate over the steps of a run."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class CosineSchedule(LambdaLR):
    """Lowers the learning rate of each parameter group along a cosine, one call a step.

    A group ends at `min_lr`; one that starts at or below it stays at its own rate, so that no rate
    ever rises.

    Unlike torch's CosineAnnealingLR, a run that is resumed with more steps follows the cosine of
    the new length, and stays at its end.

    Args:
        optimizer: with the rates to start from.
        min_lr: rate at the last step.
        steps: of the whole run, at least 1.
    """

    def __init__(self, optimizer: Optimizer, min_lr: float, steps: int) -> None:
        """Set the rates of the first step.

        Raises:
            ValueError: for a negative min_lr.
        """
        if min_lr < 0:
            raise ValueError(f"min_lr is a learning rate of at least 0, not {min_lr:g}")
        rates = [group["lr"] for group in optimizer.param_groups]
        super().__init__(optimizer, [_cosine(rate, min_lr, steps) for rate in rates])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume at the step reached, along the cosine from this optimizer's own rates.

        The rates in the optimizer's restored state are replaced by those that this optimizer was
        created with.
        """
        super().load_state_dict({**state_dict, "base_lrs": self.base_lrs})
        groups = self.optimizer.param_groups
        for group, first, factor in zip(groups, self.base_lrs, self.lr_lambdas, strict=True):
            group.update(initial_lr=first, lr=first * factor(self.last_epoch))
        self._last_lr = [group["lr"] for group in groups]


def _cosine(rate: float, min_lr: float, steps: int) -> Callable[[int], float]:
    """The factor of a rate at each step."""
    lowest = min_lr / rate if rate > min_lr else 1.0

    def factor(step: int) -> float:
        share = min(1.0, step / steps)
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * share)) / 2

    return factor
