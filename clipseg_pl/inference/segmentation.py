"""What a photo shows of each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segmentation:
    """What a photo shows of each of P prompts.

    Args:
        prompts: their names.
        probability: (P, H, W) float32 at the photo's own size, 0 to 1.
        presence: (P,) float32, 0 to 1: how surely the photo shows it at all, see
            `metrics.presence`.
        threshold: above which a pixel belongs to a mask.
        absent_cut: presence below which a prompt is taken to be absent, and its mask empty.
    """

    prompts: Sequence[str]
    probability: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    threshold: float
    absent_cut: float

    @property
    def absent(self) -> npt.NDArray[np.bool_]:
        """(P,) bool: which prompts are taken not to be in the photo."""
        return self.presence < self.absent_cut

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """(P, H, W) bool; those of absent prompts are empty."""
        masks = self.probability > self.threshold
        masks[self.absent] = False
        return masks

    def argmax(self) -> npt.NDArray[np.int64]:
        """The likeliest prompt of every pixel, (H, W): 0 is background, p + 1 prompt p.

        Background is what no prompt reaches the threshold at. Absent prompts are nowhere.
        """
        probability = np.where(self.absent[:, None, None], 0, self.probability)
        reached = probability.max(0) > self.threshold
        return np.where(reached, probability.argmax(0) + 1, 0)
