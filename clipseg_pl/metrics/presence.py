"""Whether what was asked for is there at all."""

from torch import Tensor


def presence(probability: Tensor) -> Tensor:
    flat = probability.float().flatten(1)
    return flat.topk(max(1, flat.shape[1] // 100), dim=1).values.mean(1)
