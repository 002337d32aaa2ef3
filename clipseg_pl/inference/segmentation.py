"""Segmentation of a photo for several prompts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from clipseg_pl.images import Picture, load_photo
from clipseg_pl.inference.editing import UNEDITED, Edits, edit_masks, edit_probabilities, feather
from clipseg_pl.prompts.text import normalise_phrase


@dataclass(frozen=True)
class Segmentation:
    """Segmentation of a photo for P prompts.

    Args:
        prompts: names of the prompts.
        probability: (P, H, W) float32 at the size of the photo, 0 to 1.
        presence: (P,) float32 presence scores, 0 to 1: the confidence that the prompted object is
            in the photo, see `metrics.functional.presence`.
        threshold: probability above which a pixel belongs to a mask; (P,) if prompts have different
            thresholds.
        absent_cut: presence score below which a prompt is considered absent. Its mask is empty.
    """

    prompts: Sequence[str]
    probability: npt.NDArray[np.float32]
    presence: npt.NDArray[np.float32]
    threshold: float | npt.NDArray[np.float32]
    absent_cut: float

    @property
    def absent(self) -> npt.NDArray[np.bool_]:
        """(P,) bool: prompts considered absent from the photo."""
        return self.presence < self.absent_cut

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """(P, H, W) bool; masks of absent prompts are empty."""
        masks = self.probability > np.reshape(np.asarray(self.threshold, np.float32), (-1, 1, 1))
        masks[self.absent] = False
        return masks

    def argmax(self) -> npt.NDArray[np.int64]:
        """Return a label map (H, W): p + 1 where prompt p is the most probable prompt.

        Only prompts that exceed their threshold count. Pixels without such a prompt are 0
        (background). Absent prompts are ignored.
        """
        masks = self.masks
        probability = np.where(masks, self.probability, np.float32(0))
        return np.where(masks.any(0), probability.argmax(0) + 1, 0)

    def split(self, count: int) -> tuple[Self, Self]:
        """Split into the first `count` prompts and the others, without copying."""
        threshold = self.threshold
        first, others = (
            replace(
                self,
                prompts=self.prompts[rows],
                probability=self.probability[rows],
                presence=self.presence[rows],
                threshold=threshold[rows] if isinstance(threshold, np.ndarray) else threshold,
            )
            for rows in (slice(count), slice(count, None))
        )
        return first, others

    def edit(
        self, edits: Edits = UNEDITED, minus: "Segmentation | None" = None
    ) -> npt.NDArray[np.uint8]:
        """Return edited masks, for example for inpainting.

        Args:
            edits: edits and their order, see `Edits`.
            minus: segmentation of the same photo with other prompts. Pixels in any of its masks are
                removed from every mask.

        Returns:
            (Q, H, W), 0 to 255. Only a feathered edge has other values than 0 and 255. Q is 1 with
            `edits.union`, else P.

        Raises:
            ValueError: if `minus` has another size.
        """
        masks = edit_masks(self.masks, self._of_same_size(minus).masks, edits)
        return np.stack([feather(mask, edits.feather) for mask in masks])

    def soft(
        self, edits: Edits = UNEDITED, minus: "Segmentation | None" = None
    ) -> npt.NDArray[np.uint8]:
        """Return probabilities as grey values, without a threshold. Those of absent prompts are 0.

        Args:
            edits: `union` and `invert`, see `edit_probabilities`.
            minus: segmentation of the same photo with other prompts.

        Returns:
            (Q, H, W), probabilities from 0 to 1 mapped to 0 to 255.

        Raises:
            ValueError: if `minus` has another size, or `edits` contains `grow` or `feather`.
        """
        subtracted = self._of_same_size(minus)._present_only
        return edit_probabilities(self._present_only, subtracted, edits)

    def cutouts(
        self, photo: Picture, edits: Edits = UNEDITED, minus: "Segmentation | None" = None
    ) -> npt.NDArray[np.uint8]:
        """Return the photo with each edited mask as its alpha channel.

        Transparent pixels keep the colours of the photo.

        Args:
            photo: the segmented photo.
            edits: see `edit`.
            minus: see `edit`.

        Returns:
            (Q, H, W, 4) RGBA.

        Raises:
            ValueError: if the photo or `minus` has another size.
            UnreadableImageError: if the photo cannot be read.
        """
        pixels, masks = load_photo(photo), self.edit(edits, minus)
        if pixels.shape[:2] != masks.shape[1:]:
            raise ValueError(
                f"the photo has {_size(pixels.shape[:2])} pixels, but its masks have "
                f"{_size(masks.shape[1:])}: give the photo that was segmented"
            )
        return np.stack([np.dstack([pixels, mask]) for mask in masks])

    @property
    def _present_only(self) -> npt.NDArray[np.float32]:
        """Probabilities (P, H, W), 0 for absent prompts."""
        return np.where(self.absent[:, None, None], np.float32(0), self.probability)

    def _of_same_size(self, other: "Segmentation | None") -> "Segmentation":
        """Return the other segmentation after a check of its size; one without prompts if None."""
        if other is None:
            return self.split(0)[0]
        sizes = [shown.probability.shape[1:] for shown in (self, other)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"minus has masks of {_size(sizes[1])} pixels instead of {_size(sizes[0])}: "
                "segment the same photo"
            )
        return other


def thresholds_of(
    phrases: Sequence[str], threshold: float, class_thresholds: Mapping[str, float]
) -> float | npt.NDArray[np.float32]:
    """Return the threshold of each prompt, that of its class if it has one.

    Args:
        phrases: P phrases; empty for prompts that are not a text alone.
        threshold: threshold of the other prompts.
        class_thresholds: normalised phrase -> threshold of its class.

    Returns:
        (P,), or `threshold` if it applies to all prompts.
    """
    found = [class_thresholds.get(normalise_phrase(phrase), threshold) for phrase in phrases]
    return threshold if set(found) <= {threshold} else np.array(found, np.float32)


def _size(shape: Sequence[int]) -> str:
    height, width = shape
    return f"{width} x {height}"
