"""The numbers that all thresholded protocols share: mIoU, IoU_FG, IoU_BIN, AP."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from clipseg_pl.metrics.functional import (
    THRESHOLDS,
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

Report = dict[str, dict[str, float]]
"""title -> name -> number"""

REPORTED_THRESHOLDS = (0.1, 0.2, 0.3, 0.5)
"""those the paper prints results at"""

_ROUNDING = 1e-12  # sums over other numbers of ranks differ by less
_SIZES = (0.01, 0.02, 0.05, 0.1, 0.2)  # shares of the image
SIZE_NAMES = ("to 1 %", "1 to 2 %", "2 to 5 %", "5 to 10 %", "10 to 20 %", "above 20 %")
"""of the groups of targets that reports tell apart"""


class OverlapMetrics(nn.Module):
    """The metrics of one reading, over prompts that name what is there.

    Args:
        num_classes: class ids lie in [0, num_classes), and mIoU is the mean over classes, each
            with its pixels summed; by default it is the mean over prompts, each by itself.
    """

    def __init__(self, num_classes: int = 0) -> None:
        """Create the metrics."""
        super().__init__()
        self.prompts = MeanIoUPerPrompt(len(_SIZES) + 1)
        self.classes = MeanIoUPerClass(num_classes) if num_classes else None
        self.counts = DatasetCounts()
        self.ap_exact = AveragePrecision()

    def update(self, probability: Tensor, target: Tensor, valid: Tensor, class_id: Tensor) -> None:
        """Add prompts.

        Args:
            probability: (K, 1, H, W) float32, 0 to 1.
            target: (K, 1, H, W) bool.
            valid: (K, 1, H, W) bool, the pixels that count.
            class_id: (K,) int64, read where mIoU is a mean over classes.
        """
        counted = histograms(probability, target, valid)
        area = counted.positives.sum(1)
        share = area / (area + counted.negatives.sum(1)).clamp(min=1)
        size = torch.bucketize(share, torch.tensor(_SIZES, device=share.device))
        self.prompts.update(counted, size)
        if self.classes is not None:
            self.classes.update(counted, class_id)
        self.counts.update(counted)
        self.ap_exact.update(probability, target, valid)

    def compute(self, kept_threshold: float | None) -> dict[str, float]:
        """Numbers by name; those that need a prompt are left out where there was none."""
        numbers: dict[str, float] = {"prompts": self.prompts.compute().prompts}
        if not numbers["prompts"]:
            return numbers
        counts, miou = self.counts.compute(), self.miou()
        curves = {"miou": miou, "iou_fg": iou_foreground(counts), "iou_bin": iou_binary(counts)}
        numbers |= {f"{name}@best": float(curve.max()) for name, curve in curves.items()}
        numbers["threshold@best"] = best(miou)
        numbers["ap"] = paper_average_precision(counts)
        numbers["ap_exact"] = self.ap_exact.compute()
        return numbers | at_thresholds(curves, kept_threshold)

    def miou(self) -> Tensor:
        """(T,) float64, zeros where nothing was seen."""
        if self.classes is None:
            return self.prompts.compute().mean
        iou, seen = self.classes.compute()
        return iou[seen].sum(0) / seen.sum().clamp(min=1)

    def report(self, threshold: float, class_names: Sequence[str]) -> Report:
        """Curves over the thresholds, and IoU by size of the target and by class.

        Empty where there was no prompt.

        Args:
            threshold: at which sizes and classes are compared.
            class_names: by class id.
        """
        every = self.prompts.compute()
        if not every.prompts:
            return {}
        counts, place = self.counts.compute(), position(threshold)
        tables: dict[str, dict[str, float]] = {
            "miou by threshold": _curve(self.miou()),
            "precision by threshold": _curve(counts.tp / (counts.tp + counts.fp).clamp(min=1)),
            "recall by threshold": _curve(counts.tp / (counts.tp + counts.fn).clamp(min=1)),
        }
        tables[f"mean iou@{threshold:g} by share of the image"] = {
            name: float(every.of_groups[group, place])
            for group, name in enumerate(SIZE_NAMES)
            if every.group_prompts[group]
        }
        if self.classes is not None:
            iou, seen = self.classes.compute()
            tables[f"iou@{threshold:g} by class"] = {
                class_names[number]: float(iou[number, place])
                for number in seen.nonzero()[:, 0].tolist()
            }
        return tables

    def reset(self) -> None:
        """Forget everything."""
        for metric in (self.prompts, self.classes, self.counts, self.ap_exact):
            if metric is not None:
                metric.reset()


class Overlaps(nn.ModuleDict):
    """`OverlapMetrics` by name.

    Args:
        names: what the numbers of each are named after.
        num_classes: see `OverlapMetrics`.
    """

    def __init__(self, names: Sequence[str], num_classes: int = 0) -> None:
        """Create the metrics."""
        super().__init__({name: OverlapMetrics(num_classes) for name in names})

    def __getitem__(self, name: str) -> OverlapMetrics:
        """The metrics of a name."""
        metrics = super().__getitem__(name)
        assert isinstance(metrics, OverlapMetrics)
        return metrics

    def compute(self, kept_threshold: float | None) -> dict[str, float]:
        """Every number, named `<name>/<metric>`."""
        return {
            f"{name}/{metric}": value
            for name in self
            for metric, value in self[name].compute(kept_threshold).items()
        }

    def report(self, kept_threshold: float | None, class_names: Sequence[str]) -> Report:
        """Every table, titled `<name>: <title>`; at the paper's threshold where none is kept."""
        threshold, _ = threshold_in_use(None, kept_threshold)
        return {
            f"{name}: {title}": table
            for name in self
            for title, table in self[name].report(threshold, class_names).items()
        }

    def reset(self) -> None:
        """Forget everything."""
        for name in self:
            self[name].reset()


def best(curve: Tensor) -> float:
    """The lowest of the thresholds at which a curve (T,) is highest, but for rounding."""
    highest = curve >= curve.max() - _ROUNDING
    return round(float(THRESHOLDS[int(highest.int().argmax())]), 2)


def at_thresholds(curves: Mapping[str, Tensor], kept_threshold: float | None) -> dict[str, float]:
    """Read curves (T,) at the paper's thresholds, and at the one kept in the checkpoint."""
    at = {f"{threshold:g}": threshold for threshold in REPORTED_THRESHOLDS}
    if kept_threshold is not None:
        at["kept"] = kept_threshold
    return {
        f"{name}@{label}": float(curve[position(threshold)])
        for name, curve in curves.items()
        for label, threshold in at.items()
    }


def position(threshold: float) -> int:
    """Index of the grid threshold nearest to the given one."""
    return int((THRESHOLDS - threshold).abs().argmin())


def _curve(values: Tensor) -> dict[str, float]:
    """(T,) by threshold."""
    return {
        f"{threshold:.2f}": value
        for threshold, value in zip(THRESHOLDS.tolist(), values.tolist(), strict=True)
    }
