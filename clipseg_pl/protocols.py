"""How logits are read out and what is measured, one class a table of the paper.

A protocol belongs to the evaluation, not to what was trained: it is no hyper-parameter of a
checkpoint, and any checkpoint can be validated under any protocol.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from clipseg_pl.metrics.functional import (
    THRESHOLDS,
    Counts,
    Histograms,
    histograms,
    iou_binary,
    iou_foreground,
    paper_average_precision,
)
from clipseg_pl.metrics.threshold_counts import (
    AveragePrecision,
    DatasetCounts,
    FalsePositives,
    MeanIoUPerPrompt,
)
from clipseg_pl.sample import Batch, has_support

Reading = Literal["text", "visual"]
REPORTED_THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
"""those the paper prints results at"""


class Protocol(nn.Module, ABC):
    """One way to evaluate.

    Args:
        readings: kinds of prompt that every batch is read with, each measured by itself; the
            images are encoded once for all of them.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        """Remember the readings.

        Raises:
            ValueError: if there is none.
        """
        super().__init__()
        if not readings:
            raise ValueError("protocol.readings needs at least one of 'text', 'visual'")
        self.readings = tuple(readings)

    def selected(self, reading: Reading, batch: Batch) -> Tensor:
        """Which prompts a reading is for: all for text, those with supports for visual: (P,)."""
        present = has_support(batch)
        return present if reading == "visual" else torch.ones_like(present)

    @abstractmethod
    def update(self, reading: Reading, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure the (K, 1, H, W) logits of the K selected of P prompts."""

    @abstractmethod
    def compute(self, kept_threshold: float | None) -> dict[str, float]:
        """Return every number, named `<reading>/<metric>`.

        Args:
            kept_threshold: the checkpoint's own, adds `@kept` where it is known.
        """

    @abstractmethod
    def reset(self) -> None:
        """Forget what was measured."""

    @abstractmethod
    def best_threshold(self) -> float:
        """The threshold that a checkpoint should keep after this evaluation."""


class ReferringProtocol(Protocol):
    """Referring expressions on PhraseCut, by text and by visual prompt.

    Prompts that name what is in the image make mIoU (mean over prompts), IoU_FG, IoU_BIN, AP and
    exact AP; phrases that are absent make the rates of false positives. Each is given at the
    paper's thresholds, at the `best` of the 49 (chosen on the very set, as the paper's Table 9
    does) and at the one `kept` in the checkpoint.

    Args:
        readings: "text", "visual" or both.

    Reference: paper section 5.1, Tables 3 and 9.
    """

    def __init__(self, readings: Sequence[Reading] = ("text", "visual")) -> None:
        """Create the metrics of each reading."""
        super().__init__(readings)
        self.text = _ReferringMetrics()
        self.visual = _ReferringMetrics()

    def update(self, reading: Reading, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure the (K, 1, H, W) logits of the K selected of P prompts."""
        self._of(reading).update(
            logits.float().sigmoid(),
            batch["query_mask"][selected],
            batch["valid_mask"][selected],
            batch["negative"][selected],
        )

    def compute(self, kept_threshold: float | None) -> dict[str, float]:
        """Return every number, named `<reading>/<metric>`."""
        return {
            f"{reading}/{name}": value
            for reading in self.readings
            for name, value in self._of(reading).compute(kept_threshold).items()
        }

    def reset(self) -> None:
        """Forget what was measured."""
        for reading in self.readings:
            self._of(reading).reset()

    def best_threshold(self) -> float:
        """The threshold of the best mIoU, by text where text is read."""
        miou, _ = self._of("text" if "text" in self.readings else "visual").miou.compute()
        return _best(miou)

    def _of(self, reading: Reading) -> "_ReferringMetrics":
        return self.text if reading == "text" else self.visual


class _ReferringMetrics(nn.Module):
    """The metrics of one reading."""

    def __init__(self) -> None:
        super().__init__()
        self.miou = MeanIoUPerPrompt()
        self.counts = DatasetCounts()
        self.ap_exact = AveragePrecision()
        self.absent = FalsePositives()

    def update(self, probability: Tensor, target: Tensor, valid: Tensor, absent: Tensor) -> None:
        counted = histograms(probability, target, valid)
        named = Histograms(counted.positives[~absent], counted.negatives[~absent])
        self.miou.update(named)
        self.counts.update(named)
        self.ap_exact.update(probability[~absent], target[~absent], valid[~absent])
        self.absent.update(Histograms(counted.positives[absent], counted.negatives[absent]))

    def compute(self, kept_threshold: float | None) -> dict[str, float]:
        counts: Counts = self.counts.compute()
        miou, prompts = self.miou.compute()
        absent_rate, absent_area, absent_prompts = self.absent.compute()
        numbers: dict[str, float] = {"prompts": prompts, "absent_prompts": absent_prompts}
        overlap, absent = {}, {}  # what was not measured is not 0
        if prompts:
            fg, both = iou_foreground(counts), iou_binary(counts)
            overlap = {"miou": miou, "iou_fg": fg, "iou_bin": both}
            numbers |= {f"{name}@best": float(curve.max()) for name, curve in overlap.items()}
            numbers["threshold@best"] = _best(miou)
            numbers["ap"] = paper_average_precision(counts)
            numbers["ap_exact"] = self.ap_exact.compute()
        if absent_prompts:
            absent = {"absent_rate": absent_rate, "absent_area": absent_area}
        at = {f"{threshold:g}": threshold for threshold in REPORTED_THRESHOLDS}
        if kept_threshold is not None:
            at["kept"] = kept_threshold
        return numbers | {
            f"{name}@{label}": float(curve[_position(threshold)])
            for name, curve in {**overlap, **absent}.items()
            for label, threshold in at.items()
        }

    def reset(self) -> None:
        for metric in (self.miou, self.counts, self.ap_exact, self.absent):
            metric.reset()


def _best(curve: Tensor) -> float:
    return round(float(THRESHOLDS[int(curve.argmax())]), 2)


def _position(threshold: float) -> int:
    """Index of the grid threshold nearest to the given one."""
    return int((THRESHOLDS - threshold).abs().argmin())
