"""Loss between the logits and the target masks."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.sample import Batch


@dataclass(frozen=True)
class MaskLoss:
    """Weighted sum of binary cross-entropy, Dice loss and focal loss; ignores invalid pixels.

    The default is the paper's binary cross-entropy alone.

    Args:
        bce: weight of the binary cross-entropy, the mean over the pixels of all prompts.
        dice: weight of the soft Dice loss, the mean over prompts.
        focal: weight of the focal loss (Lin et al. 2017, without alpha), the mean over the pixels
            of all prompts.
        focal_gamma: exponent of the focal loss, at least 1. The larger it is, the less the pixels
            that are already right count.
    """

    bce: float = 1.0
    dice: float = 0.0
    focal: float = 0.0
    focal_gamma: float = 2.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: if a weight is negative or not finite, if all weights are 0, or if
                `focal_gamma` is below 1.
        """
        for name, weight in self._weights().items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"loss.{name} must be a weight of at least 0, got {weight:g}")
        if not any(self._weights().values()):
            raise ValueError("all weights of the loss are 0: set loss.bce, loss.dice or loss.focal")
        if not 1 <= self.focal_gamma < math.inf:
            raise ValueError(f"loss.focal_gamma must be at least 1, got {self.focal_gamma:g}")

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Return the loss. Arguments are as in `terms`."""
        return self.weighted(self.terms(logits, batch))

    def terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Return the terms whose weight is above 0, by name and before they are weighted.

        Args:
            logits: (P, 1, H, W) of any floating type. They are converted to float32, because sums
                over pixels overflow float16.
            batch: batch with the targets.
        """
        valid, target, logits = batch["valid_mask"], batch["query_mask"].float(), logits.float()
        terms: dict[str, Tensor] = {}
        if self.bce or self.focal:
            per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.bce:
            terms["bce"] = _mean(per_pixel, valid)
        if self.dice:
            terms["dice"] = _dice(logits.sigmoid() * valid, target * valid)
        if self.focal:
            wrong = -torch.expm1(-per_pixel)  # 1 - probability of the right class
            terms["focal"] = _mean(wrong**self.focal_gamma * per_pixel, valid)
        return terms

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms."""
        weights = self._weights()
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum()

    def _weights(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if name != "focal_gamma"}


def _mean(per_pixel: Tensor, valid: Tensor) -> Tensor:
    """Return the mean over the valid pixels of all prompts, 0 if there are none."""
    return (per_pixel * valid).sum() / valid.sum().clamp(min=1)


def _dice(probability: Tensor, target: Tensor) -> Tensor:
    """Return the mean over P prompts of 1 - Dice, with one pixel of overlap added.

    The added pixel makes the loss of an empty prediction for an empty target 0.

    Args:
        probability: (P, 1, H, W) in [0, 1], 0 on invalid pixels.
        target: (P, 1, H, W) of 0 and 1, 0 on invalid pixels.
    """
    overlap = (probability * target).flatten(1).sum(1)
    total = probability.flatten(1).sum(1) + target.flatten(1).sum(1)
    return (1 - (2 * overlap + 1) / (total + 1)).mean()
