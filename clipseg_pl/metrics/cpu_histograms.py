"""Pixels between thresholds, counted on a CPU a cache's worth at a time."""

import cv2
import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 18  # pixels; below 2^24 too, where OpenCV's float32 counts would stop being exact
_CODES = 256  # of a byte


class ThresholdCounter:
    """Counts pixels by the number of thresholds that lie strictly below their probability.

    A byte a pixel says the number: first by a product, whose rounding may be off by one near a
    threshold, then put right by comparing the probability with the two thresholds around it.

    Args:
        thresholds: (T,) float32, rising: k / (T + 1) for k from 1, each rounded; T < 127.
    """

    def __init__(self, thresholds: npt.NDArray[np.float32]) -> None:
        """Lay out the thresholds around each number.

        Raises:
            ValueError: for more thresholds than a byte tells apart on both sides of a target.
        """
        self.bins = len(thresholds) + 1
        if 2 * self.bins >= _CODES:
            raise ValueError(f"a byte tells at most 126 thresholds apart, not {len(thresholds)}")
        around = np.full(_CODES + 1, np.inf, np.float32)
        around[0], around[1 : self.bins] = -np.inf, thresholds
        self._below, self._above = around[:-1].copy(), around[1:].copy()

    def __call__(
        self,
        probability: npt.NDArray[np.float32],
        target: npt.NDArray[np.bool_],
        valid: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.int64]:
        """Count.

        Args:
            probability: (P, M), 0 to 1.
            target: (P, M).
            valid: (P, M), pixels to count; all where it is None.

        Returns:
            (P, 2, T + 1), first of the pixels outside the targets.
        """
        prompts, pixels = probability.shape
        counts = np.zeros((prompts, 2 * self.bins), np.int64)
        for prompt in range(prompts):
            for first in range(0, pixels, _CHUNK):
                part = prompt, slice(first, first + _CHUNK)
                codes = self._codes(probability[part], target[part])
                if valid is not None:
                    codes |= valid[part].view(np.uint8) - np.uint8(1)  # 255 where it is false
                found = cv2.calcHist([codes[None]], [0], None, [_CODES], [0, _CODES]).ravel()
                counts[prompt] += found[: 2 * self.bins].astype(np.int64)
        return counts.reshape(prompts, 2, self.bins)

    def _codes(
        self, probability: npt.NDArray[np.float32], target: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.uint8]:
        """(M,) number of thresholds below, plus T + 1 on the target."""
        code = (probability * np.float32(self.bins)).astype(np.uint8)
        low, high = (cv2.LUT(code[None], table)[0] for table in (self._below, self._above))
        code += (probability > high).view(np.uint8)
        code -= (probability <= low).view(np.uint8)
        code += target.view(np.uint8) * np.uint8(self.bins)
        return code
