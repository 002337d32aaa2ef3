"""Metrics shared by all protocols that threshold probabilities: mIoU, IoU_FG, IoU_BIN and AP."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clipseg_pl.metrics.functional import (
    THRESHOLDS,
    Histograms,
    histograms,
    iou_binary,
    iou_foreground,
    paper_average_precision,
    threshold_in_use,
)
from clipseg_pl.metrics.threshold_counts import (
    AveragePrecision,
    DatasetCounts,
    MeanIoUPerClass,
    MeanIoUPerPrompt,
)
from clipseg_pl.sample import Batch

Report = dict[str, dict[str, float]]
"""title -> name -> value"""

REPORTED_THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
"""thresholds of the results in the paper"""

_ROUNDING = 1e-12  # results with different numbers of ranks differ by less than this
_SIZES = (0.01, 0.02, 0.05, 0.1, 0.2)  # upper bounds of the target's share of the image
SIZE_NAMES = ("to 1 %", "1 to 2 %", "2 to 5 %", "5 to 10 %", "10 to 20 %", "above 20 %")
"""names of the size groups in reports, by the target's share of the image"""


class OverlapMetrics(nn.Module):
    """Metrics of one prompt type, over prompts that are present in their image.

    Args:
        num_classes: number of classes. If it is positive, pixels are summed per class and mIoU is
            the mean over classes. By default (0), mIoU is the mean over prompts.
    """

    def __init__(self, num_classes: int = 0) -> None:
        super().__init__()
        self.prompts = MeanIoUPerPrompt(len(_SIZES) + 1)
        self.classes = MeanIoUPerClass(num_classes) if num_classes else None
        self.counts = DatasetCounts()
        self.ap_exact = AveragePrecision()

    def update(
        self, probability: Tensor, target: Tensor, valid: Tensor, class_id: Tensor
    ) -> Histograms:
        """Add prompts.

        Args:
            probability: (K, 1, H, W) float32, 0 to 1.
            target: (K, 1, H, W) bool.
            valid: (K, 1, H, W) bool, pixels to count.
            class_id: (K,) int64, used if mIoU is a mean over classes.

        Returns:
            The pixel histograms of the prompts.
        """
        counted = histograms(probability, target, valid)
        self.prompts.update(counted, size_group(counted))
        if self.classes is not None:
            self.classes.update(counted, class_id)
        self.counts.update(counted)
        self.ap_exact.update(probability, target, valid)
        return counted

    def compute(self, stored_threshold: float | None) -> dict[str, float]:
        """Return the metrics by name. If there was no prompt, the only metric is `prompts`: 0."""
        numbers: dict[str, float] = {"prompts": self.prompts.compute().prompts}
        if not numbers["prompts"]:
            return numbers
        counts, miou = self.counts.compute(), self.miou()
        curves = {"miou": miou, "iou_fg": iou_foreground(counts), "iou_bin": iou_binary(counts)}
        numbers |= {f"{name}@best": float(curve.max()) for name, curve in curves.items()}
        numbers["threshold@best"] = best(miou)
        numbers["ap"] = paper_average_precision(counts)
        numbers["ap_exact"] = self.ap_exact.compute()
        return numbers | at_thresholds(curves, stored_threshold)

    def miou(self) -> Tensor:
        """Return mIoU at each threshold, (T,) float64; zeros without prompts."""
        if self.classes is None:
            return self.prompts.compute().mean
        iou, present = self.classes.compute()
        return iou[present].sum(0) / present.sum().clamp(min=1)

    def curves(self) -> Report:
        """Return mIoU, precision and recall by threshold; empty if there was no prompt."""
        if not self.prompts.compute().prompts:
            return {}
        counts = self.counts.compute()
        return {
            "miou by threshold": by_threshold(self.miou()),
            "precision by threshold": by_threshold(
                counts.tp / (counts.tp + counts.fp).clamp(min=1)
            ),
            "recall by threshold": by_threshold(counts.tp / (counts.tp + counts.fn).clamp(min=1)),
        }

    def groups(self, threshold: float, class_names: Sequence[str]) -> Report:
        """Return IoU by size of the target and by class; empty if there was no prompt.

        Args:
            threshold: threshold of the IoU.
            class_names: indexed by class id.
        """
        iou_of_prompts, index = self.prompts.compute(), position(threshold)
        if not iou_of_prompts.prompts:
            return {}
        tables = {
            f"mean iou@{threshold:g} by share of the image": {
                name: float(iou_of_prompts.group_mean[group, index])
                for group, name in enumerate(SIZE_NAMES)
                if iou_of_prompts.group_prompts[group]
            }
        }
        if self.classes is not None:
            iou, present = self.classes.compute()
            tables[f"iou@{threshold:g} by class"] = {
                class_names[class_id]: float(iou[class_id, index])
                for class_id in present.nonzero()[:, 0].tolist()
            }
        return tables

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in (self.prompts, self.classes, self.counts, self.ap_exact):
            if metric is not None:
                metric.reset()


class Overlaps(nn.ModuleDict):
    """A dictionary of `OverlapMetrics`.

    Args:
        names: keys, used as prefixes of the metric names.
        num_classes: see `OverlapMetrics`.
    """

    def __init__(self, names: Sequence[str], num_classes: int = 0) -> None:
        super().__init__({name: OverlapMetrics(num_classes) for name in names})

    def __getitem__(self, name: str) -> OverlapMetrics:
        """Return the metrics with a name."""
        metrics = super().__getitem__(name)
        assert isinstance(metrics, OverlapMetrics)
        return metrics

    def compute(self, stored_threshold: float | None) -> dict[str, float]:
        """Return all metrics, named `<name>/<metric>`."""
        return {
            f"{name}/{metric}": value
            for name in self
            for metric, value in self[name].compute(stored_threshold).items()
        }

    def report(self, stored_threshold: float | None, class_names: Sequence[str]) -> Report:
        """Return all tables, titled `<name>: <title>`.

        Args:
            stored_threshold: threshold stored in the checkpoint; the paper's is used if None.
            class_names: indexed by class id.
        """
        threshold, _ = threshold_in_use(None, stored_threshold)
        return {
            f"{name}: {title}": table
            for name in self
            for title, table in (
                self[name].curves() | self[name].groups(threshold, class_names)
            ).items()
        }

    def reset(self) -> None:
        """Reset all metrics."""
        for name in self:
            self[name].reset()


class SameSize(NamedTuple):
    """The prompts of a batch whose targets have the same height and width."""

    rows: Tensor
    """(K,) bool, true for n of the K selected prompts"""
    probability: Tensor
    """(n, 1, height, width) float32, 0 to 1, resized to the size of the targets"""
    target: Tensor
    """(n, 1, height, width) bool"""
    valid: Tensor
    """(n, 1, height, width) bool, pixels to count"""


def at_target_size(
    probability: Tensor, batch: Batch, selected: Tensor, *, align_corners: bool
) -> Iterator[SameSize]:
    """Resize probabilities to the sizes of their targets, bilinearly, and group them by size.

    Args:
        probability: (K, 1, H, W) float32 of the K selected prompts.
        batch: a batch with P prompts.
        selected: (P,) bool, true for the K prompts.
        align_corners: align the centres of the corner pixels, as PFENet does. Otherwise, the edges
            are aligned and downsizing is antialiased, as in `segment`.
    """
    sizes = batch["target_size"][selected]
    target, valid = batch["query_mask"][selected], batch["valid_mask"][selected]
    for height, width in sorted({(height, width) for height, width in sizes.tolist()}):
        rows = (sizes == sizes.new_tensor((height, width))).all(1)
        fitted = probability[rows]
        if fitted.shape[2:] != (height, width):
            options = {"align_corners": True} if align_corners else {"antialias": True}
            fitted = F.interpolate(fitted, (height, width), mode="bilinear", **options)
            fitted = fitted.clamp(0, 1)  # interpolation may exceed 1 because of rounding
        yield SameSize(
            rows, fitted, target[rows, :, :height, :width], valid[rows, :, :height, :width]
        )


def size_group(pixels: Histograms) -> Tensor:
    """Return the index of each prompt's size group in `SIZE_NAMES`, (P,) int64."""
    area = pixels.positives.sum(1)
    share = area / (area + pixels.negatives.sum(1)).clamp(min=1)
    return torch.bucketize(share, torch.tensor(_SIZES, device=share.device))


def best(curve: Tensor) -> float:
    """Return the lowest threshold at which a curve (T,) is maximal, up to rounding errors."""
    highest = curve >= curve.max() - _ROUNDING
    return round(float(THRESHOLDS[int(highest.int().argmax())]), 2)


def threshold_to_store(curve: Tensor) -> float | None:
    """Return the best threshold of a curve (T,); None for a curve of zeros, which has none."""
    return best(curve) if curve.max() > 0 else None


def at_thresholds(curves: Mapping[str, Tensor], stored_threshold: float | None) -> dict[str, float]:
    """Return the values of curves (T,) at the paper's thresholds and at the stored threshold."""
    at = {f"{threshold:g}": threshold for threshold in REPORTED_THRESHOLDS}
    if stored_threshold is not None:
        at["stored"] = stored_threshold
    return {
        f"{name}@{label}": float(curve[position(threshold)])
        for name, curve in curves.items()
        for label, threshold in at.items()
    }


def position(threshold: float) -> int:
    """Return the index of the nearest of the 49 thresholds."""
    return int((THRESHOLDS - threshold).abs().argmin())


def by_threshold(values: Tensor) -> dict[str, float]:
    """Return a table of the values (T,) of a curve by threshold."""
    return {
        f"{threshold:.2f}": value
        for threshold, value in zip(THRESHOLDS.tolist(), values.tolist(), strict=True)
    }
