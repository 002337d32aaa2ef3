"""The learning rate over the steps of a run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_schedule(optimizer: Optimizer, min_lr: float, steps: int) -> LambdaLR:
    """Bring the learning rate down along a cosine, to be called once a step.

    torch's CosineAnnealingLR would keep the old length where a run is prolonged, and rise after
    it; this one goes on along the cosine of the new length, and stays at its end.

    Args:
        optimizer: with the rate to start from.
        min_lr: what the rate comes down to.
        steps: of the whole run, at least 1.
    """
    lowest: float = min_lr / optimizer.param_groups[0]["lr"]

    def factor(step: int) -> float:
        share = min(1.0, step / steps)
        return lowest + (1 - lowest) * (1 + math.cos(math.pi * share)) / 2

    return LambdaLR(optimizer, factor)
