"""Photos seen in training: COCO photos that a model was trained on and is evaluated on."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from clipseg_pl.protocols.base import Predictions, Protocol
from clipseg_pl.sample import Batch

Ids = npt.NDArray[np.int64]
"""COCO ids of photos; -1 for photos that are not COCO's"""


class SeenPhotos:
    """The evaluated COCO photos that the weights were trained on, and the metrics without them.

    Args:
        protocol: protocol of the evaluation, before its first update.
        ids: (samples,) id of the photo of each sample of the split.
        trained: ids of the photos that the weights were trained on; None if unknown.
        samples: number of evaluated samples, counted from the start of the split.
    """

    def __init__(self, protocol: Protocol, ids: Ids, trained: Tensor | None, samples: int) -> None:
        """Count the photos."""
        photos = np.unique(ids[:samples][ids[:samples] >= 0])
        self.evaluated = len(photos)
        """number of evaluated COCO photos"""
        self.seen: int | None = None
        """how many of these the weights were trained on; None if unknown"""
        self.numbers: dict[str, float] = {}
        """metrics without the seen photos; empty if no photo, or every photo, was seen"""
        self._trained, self._protocol, self._differs = trained, None, False
        if trained is not None:
            self.seen = int(np.isin(photos, trained).sum())
            seen = np.isin(ids, trained)
            if _mixed(seen):  # of the whole split, hence the same on all processes
                self._protocol = copy.deepcopy(protocol)
            self._differs = _mixed(seen[:samples])

    def update(self, batch: Batch, predictions: Predictions) -> None:
        """Add the photos of a batch that were not seen."""
        if self._protocol is None or self._trained is None:
            return
        keep = ~torch.isin(batch["coco_id"], self._trained.to(batch["coco_id"].device))
        if keep.any():
            self._protocol.update_images(predictions, batch, keep)

    def compute(
        self,
        stage: str,
        threshold: float | None,
        cut: float | None,
        class_thresholds: Mapping[str, float],
    ) -> None:
        """Compute `numbers`.

        Args:
            stage: "val" or "test", the first part of the names.
            threshold: threshold stored in the checkpoint.
            cut: absent cut stored in the checkpoint.
            class_thresholds: thresholds of classes stored in the checkpoint.
        """
        if self._protocol is not None:
            self._protocol.class_thresholds = class_thresholds
            numbers = self._protocol.compute(threshold, cut)
            if self._differs:
                self.numbers = {f"{stage}/{name}": value for name, value in numbers.items()}

    def content(self) -> dict[str, Any]:
        """Return counts and metrics as plain values, for the results file."""
        return {"evaluated": self.evaluated, "seen": self.seen, "metrics_without": self.numbers}

    def __str__(self) -> str:
        """Return the counts in one line."""
        if self.seen is None:
            return (
                f"It is unknown how many of the {self.evaluated:,} evaluated COCO photos were "
                "trained on: the weights do not store the ids of their training photos"
            )
        return f"{self.seen:,} of {self.evaluated:,} evaluated COCO photos were trained on"


def _mixed(seen: npt.NDArray[np.bool_]) -> bool:
    return bool(seen.any() and not seen.all())


def add_ids(trained: Tensor, ids: Ids | None) -> Tensor:
    """Return the sorted ids of photos that weights were trained on, int64.

    Args:
        trained: ids of earlier trainings.
        ids: (samples,) id of the photo of each training sample; None if no photo is COCO's.
    """
    own = np.empty(0, np.int64) if ids is None else ids[ids >= 0]
    return torch.from_numpy(np.union1d(trained, own))
