"""Your own data: Dice besides IoU, results by class, size, brightness and number of objects."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from clipseg_pl.metrics.functional import Histograms, threshold_in_use
from clipseg_pl.metrics.threshold_counts import MeanDicePerPrompt, MeanIoUPerPrompt
from clipseg_pl.prompts.text import normalise_phrase
from clipseg_pl.protocols.base import PromptType
from clipseg_pl.protocols.overlap import (
    SIZE_NAMES,
    Report,
    at_thresholds,
    best,
    by_threshold,
    position,
    size_group,
)
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.sample import Batch, Classes

_LEVELS = (85, 170)  # upper bounds of the mean grey level
BRIGHTNESS_NAMES = ("dark (to 85)", "medium (85 to 170)", "bright (above 170)")
"""names of the brightness groups in reports, by the mean grey level of the query image, 0 to 255"""
_PARTS = (0, 1, 2, 5)  # upper bounds of the number of connected parts
OBJECT_NAMES = ("0", "1", "2", "3 to 5", "above 5")
"""names of the groups by number of objects in reports; a target that vanishes at the model's image
size has 0"""
_GREY = (299, 587, 114)  # weights of R, G and B in thousandths (ITU-R BT.601)
_SIZE, _BRIGHTNESS, _OBJECTS = "share of the image", "brightness", "number of objects"
_CLASS = "class"


class OwnDataProtocol(ReferringProtocol):
    """Evaluate your own data: the metrics of `ReferringProtocol`, Dice, and results by group.

    Dice is the mean over present prompts of 2 tp / (1 + 2 tp + fp + fn). It is reported at the same
    thresholds as mIoU; `dice@best` is Dice at the threshold with the best mIoU. If the checkpoint
    stores thresholds of classes, `miou@class` and `dice@class` evaluate each prompt at the
    threshold of its class. Prompts of other classes are evaluated at the stored threshold.

    Reports list mIoU, Dice and number of present prompts by class, by the target's share of the
    image, by brightness of the image and by number of objects, which are the connected parts of the
    target. Groups without present prompts are left out. Tables by class exist if the data has
    classes (`Classes`).

    Args:
        prompt_types: any of "text", "visual" and "blend", see `Protocol`.
    """

    @property
    def classes(self) -> Classes:
        """Classes of the evaluated data. Setting them resets the metrics by group."""
        return self._classes

    @classes.setter
    def classes(self, classes: Classes) -> None:
        self._classes = classes
        groups = {
            _SIZE: SIZE_NAMES,
            _BRIGHTNESS: BRIGHTNESS_NAMES,
            _OBJECTS: OBJECT_NAMES,
            _CLASS: classes.names,
        }
        # the states have constant sizes, which ranks need to sum them
        self.groups = nn.ModuleDict(
            {
                f"{prompt_type}: {title}": _Groups(names)
                for prompt_type in self.prompt_types
                for title, names in groups.items()
                if names
            }
        )

    def count_present(
        self, prompt_type: PromptType, pixels: Histograms, batch: Batch, present: Tensor
    ) -> None:
        """Add the present prompts to the metrics of their groups."""
        targets = (batch["query_mask"] & batch["valid_mask"])[present, 0]
        brightness = brightness_group(batch["query_image"])[batch["query_index"][present]]
        self._group(prompt_type, _SIZE).update(pixels, size_group(pixels))
        self._group(prompt_type, _BRIGHTNESS).update(pixels, brightness)
        self._group(prompt_type, _OBJECTS).update(pixels, object_group(targets))
        if self.classes.names:
            self._group(prompt_type, _CLASS).update(pixels, batch["class_id"][present])

    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `<prompt_type>/<metric>`."""
        numbers = super().compute(stored_threshold, stored_cut)
        thresholds = self._class_thresholds(stored_threshold)
        for prompt_type in self.prompt_types:
            dice = self._group(prompt_type, _SIZE).dice.compute()
            if not dice.prompts:
                continue
            own = at_thresholds({"dice": dice.mean}, stored_threshold)
            best_miou = best(self.present[prompt_type].miou())
            own["dice@best"] = float(dice.mean[position(best_miou)])
            if thresholds:
                classes = self._group(prompt_type, _CLASS)
                for name, means in classes.at(thresholds).items():
                    prompts = classes.prompts
                    own[f"{name}@class"] = float((means * prompts).sum() / prompts.sum())
            numbers |= {f"{prompt_type}/{name}": value for name, value in own.items()}
        return numbers

    def report(self, stored_threshold: float | None) -> Report:
        """Return curves over thresholds and results by group, for each prompt type."""
        shown, _ = threshold_in_use(None, stored_threshold)
        thresholds, tables = {"0.5": [0.5], f"{shown:g}": [shown]}, Report()
        for prompt_type in self.prompt_types:
            dice = self._group(prompt_type, _SIZE).dice.compute()
            if not dice.prompts:
                continue
            own = self.present[prompt_type].curves()
            own["dice by threshold"] = by_threshold(dice.mean)
            for title in (_SIZE, _BRIGHTNESS, _OBJECTS):
                own |= self._group(prompt_type, title).tables(title, thresholds)
            if self.classes.names:
                own |= self._class_tables(prompt_type, stored_threshold)
            tables |= {f"{prompt_type}: {title}": table for title, table in own.items()}
        return tables

    def _class_tables(self, prompt_type: PromptType, stored_threshold: float | None) -> Report:
        groups, thresholds = self._group(prompt_type, _CLASS), {"0.5": [0.5]}
        if stored_threshold is not None:
            thresholds["stored"] = [stored_threshold]
        if of_classes := self._class_thresholds(stored_threshold):
            thresholds["class"] = of_classes
        best_of_classes = groups.best_thresholds()
        thresholds["best"] = [best_of_classes.get(name, 0.5) for name in self.classes.names]
        tables = groups.tables(_CLASS, thresholds)
        tables["best threshold by class"] = best_of_classes
        if stored := self._stored():
            tables["stored threshold by class"] = stored
        return tables

    def best_class_thresholds(self) -> dict[str, float]:
        """Return the threshold with the best mIoU of each class, by the first prompt type.

        Returns:
            Normalised phrase -> threshold, for all phrasings of the classes that the model has
            found: a class whose mIoU is 0 at every threshold has no best threshold.
        """
        if not self.classes.names:
            return {}
        thresholds = self._group(self.prompt_types[0], _CLASS).best_thresholds()
        names = self.classes.names
        phrasings = self.classes.phrasings or tuple((name,) for name in names)
        return {
            normalise_phrase(phrase): thresholds[name]
            for name, phrases in zip(names, phrasings, strict=True)
            for phrase in phrases
            if name in thresholds
        }

    def reset(self) -> None:
        """Reset all metrics."""
        super().reset()
        for groups in self.groups.values():
            assert isinstance(groups, _Groups)
            groups.reset()

    def _stored(self) -> dict[str, float]:
        """Return the stored thresholds of the evaluated classes, by the name of the class."""
        stored = {
            name: self.class_thresholds.get(normalise_phrase(name)) for name in self.classes.names
        }
        return {name: threshold for name, threshold in stored.items() if threshold is not None}

    def _class_thresholds(self, stored_threshold: float | None) -> list[float]:
        """Return the threshold of each class; empty if none is stored for a class."""
        shown, _ = threshold_in_use(None, stored_threshold)
        stored = self._stored()
        return [stored.get(name, shown) for name in self.classes.names] if stored else []

    def _group(self, prompt_type: PromptType, title: str) -> "_Groups":
        groups = self.groups[f"{prompt_type}: {title}"]
        assert isinstance(groups, _Groups)
        return groups


class _Groups(nn.Module):
    """mIoU and Dice of the prompts of each of G groups.

    Args:
        names: names of the groups.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        self.miou, self.dice = MeanIoUPerPrompt(len(names)), MeanDicePerPrompt(len(names))

    def update(self, pixels: Histograms, group: Tensor) -> None:
        """Add K prompts with their groups, (K,) int64."""
        self.miou.update(pixels, group)
        self.dice.update(pixels, group)

    @property
    def prompts(self) -> Tensor:
        """(G,) int64, number of prompts."""
        return self.miou.compute().group_prompts.reshape(-1)  # torchmetrics squeezes one element

    def at(self, thresholds: Sequence[float]) -> dict[str, Tensor]:
        """Return `miou` and `dice` of each group, (G,) float64 each.

        Args:
            thresholds: one for all groups or one for each.
        """
        positions = torch.tensor([position(t) for t in thresholds]).expand(len(self.names))
        return {
            name: means.gather(1, positions.to(means.device)[:, None])[:, 0]
            for name, means in (
                ("miou", self.miou.compute().group_mean),
                ("dice", self.dice.compute().group_mean),
            )
        }

    def tables(self, title: str, thresholds: dict[str, list[float]]) -> Report:
        """Return the tables `<metric>@<label> by <title>` and `prompts by <title>`.

        Args:
            title: what the prompts are grouped by.
            thresholds: label -> thresholds as in `at`.
        """
        tables = {
            f"{metric}@{label} by {title}": self._table(means)
            for label, at in thresholds.items()
            for metric, means in self.at(at).items()
        }
        return {**tables, f"prompts by {title}": self._table(self.prompts)}

    def best_thresholds(self) -> dict[str, float]:
        """Return the lowest threshold with the best mIoU of each group whose mIoU exceeds 0."""
        curves = zip(self.names, self.miou.compute().group_mean, strict=True)
        return {name: best(curve) for name, curve in curves if curve.max() > 0}

    def _table(self, values: Tensor) -> dict[str, float]:
        """Return the values (G,) of the groups that have prompts, by name."""
        rows = zip(self.names, values.tolist(), self.prompts.tolist(), strict=True)
        return {name: value for name, value, prompts in rows if prompts}

    def reset(self) -> None:
        """Reset both metrics."""
        self.miou.reset()
        self.dice.reset()


def brightness_group(images: Tensor) -> Tensor:
    """Return the index of each image's brightness group in `BRIGHTNESS_NAMES`.

    Args:
        images: (B, 3, H, W) uint8 RGB.

    Returns:
        (B,) int64, the same on every device, because the sums are integers.
    """
    weights = torch.tensor(_GREY, device=images.device)
    grey = (images.sum((2, 3)) * weights).sum(1)
    level = grey.double() / (sum(_GREY) * images.shape[2] * images.shape[3])
    return torch.bucketize(level, torch.tensor(_LEVELS, device=images.device).double())


def object_group(targets: Tensor) -> Tensor:
    """Return the index of each target's group in `OBJECT_NAMES`, by its number of connected parts.

    Pixels that share a corner are connected.

    Args:
        targets: (K, H, W) bool.

    Returns:
        (K,) int64.
    """
    masks = targets.cpu().numpy().astype(np.uint8)
    parts = [cv2.connectedComponents(mask, connectivity=8)[0] - 1 for mask in masks]
    counts = torch.tensor(parts, dtype=torch.long, device=targets.device)
    return torch.bucketize(counts, torch.tensor(_PARTS, device=targets.device))
