"""Fast histograms of pixels between thresholds on a CPU, in chunks that fit the CPU's cache."""

import cv2
import numpy as np
import numpy.typing as npt

_CHUNK = 1 << 18  # pixels; must be below 2^24, since OpenCV counts in float32
_CODES = 256  # values of a byte


class ThresholdCounter:
    """Count pixels by the number of thresholds strictly below their probability.

    The number of thresholds is stored as one byte per pixel. It is estimated by a multiplication,
    which may be off by one near a threshold because of rounding, and then corrected by comparing
    the probability with the two thresholds around it.

    Args:
        thresholds: (T,) float32, k / (T + 1) for k = 1 ... T, rounded to float32; T < 127.
    """

    def __init__(self, thresholds: npt.NDArray[np.float32]) -> None:
        """Create lookup tables of the thresholds below and above each bin.

        Raises:
            ValueError: for more than 126 thresholds; twice their number of bins (inside and outside
                the target) must fit in one byte.
        """
        self.bins = len(thresholds) + 1
        if 2 * self.bins >= _CODES:
            raise ValueError(f"at most 126 thresholds are supported, not {len(thresholds)}")
        around = np.full(_CODES + 1, np.inf, np.float32)
        around[0], around[1 : self.bins] = -np.inf, thresholds
        self._below, self._above = around[:-1].copy(), around[1:].copy()

    def __call__(
        self,
        probability: npt.NDArray[np.float32],
        target: npt.NDArray[np.bool_],
        valid: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.int64]:
        """Count the pixels of P prompts.

        Args:
            probability: (P, M) for M pixels, 0 to 1.
            target: (P, M), true inside the target.
            valid: (P, M), pixels to count; None counts all.

        Returns:
            (P, 2, T + 1) counts, first outside and then inside the targets.
        """
        prompts, pixels = probability.shape
        counts = np.zeros((prompts, 2 * self.bins), np.int64)
        for prompt in range(prompts):
            for first in range(0, pixels, _CHUNK):
                part = prompt, slice(first, first + _CHUNK)
                codes = self._codes(probability[part], target[part])
                if valid is not None:
                    codes |= valid[part].view(np.uint8) - np.uint8(1)  # 255 if invalid
                found = cv2.calcHist([codes[None]], [0], None, [_CODES], [0, _CODES]).ravel()
                counts[prompt] += found[: 2 * self.bins].astype(np.int64)
        return counts.reshape(prompts, 2, self.bins)

    def _codes(
        self, probability: npt.NDArray[np.float32], target: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.uint8]:
        """Return (M,) numbers of thresholds below the probability, plus T + 1 inside the target."""
        code = (probability * np.float32(self.bins)).astype(np.uint8)
        low, high = (cv2.LUT(code[None], table)[0] for table in (self._below, self._above))
        code += (probability > high).view(np.uint8)
        code -= (probability <= low).view(np.uint8)
        code += target.view(np.uint8) * np.uint8(self.bins)
        return code
