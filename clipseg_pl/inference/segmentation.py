"""Segmentation of a photo for several prompts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Segmentation:
    """Segmentation of a photo for P prompts.

    Args:
        prompts: names of the prompts.
        probability: (P, H, W) float32 at the size of the photo, 0 to 1.
        presence: (P,) float32 presence scores, 0 to 1: the confidence that the prompted object is
            in the photo, see `metrics.functional.presence`.
        threshold: probability above which a pixel belongs to a mask.
        absent_cut: presence score below which a prompt is considered absent. Its mask is empty.
    """

    prompts: Sequence[str]
    probability: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    threshold: float
    absent_cut: float

    @property
    def absent(self) -> npt.NDArray[np.bool_]:
        """(P,) bool: prompts considered absent from the photo."""
        return self.presence < self.absent_cut

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """(P, H, W) bool; masks of absent prompts are empty."""
        masks = self.probability > self.threshold
        masks[self.absent] = False
        return masks

    def argmax(self) -> npt.NDArray[np.int64]:
        """Return a label map (H, W): p + 1 where prompt p is the most probable prompt.

        Pixels where no prompt exceeds the threshold are 0 (background). Absent prompts are ignored.
        """
        probability = np.where(self.absent[:, None, None], 0, self.probability)
        reached = probability.max(0) > self.threshold
        return np.where(reached, probability.argmax(0) + 1, 0)
