"""Referring expressions: PhraseCut by text and by visual prompt."""

from collections.abc import Sequence

from torch import Tensor

from clipseg_pl.metrics.functional import histograms
from clipseg_pl.metrics.presence import (
    Presence,
    balanced_accuracy,
    best_cut,
    presence,
    presence_auc,
)
from clipseg_pl.metrics.threshold_counts import FalsePositives
from clipseg_pl.protocols.base import Protocol, Reading
from clipseg_pl.protocols.overlap import Overlaps, Report, at_thresholds, best
from clipseg_pl.sample import Batch


class ReferringProtocol(Protocol):
    """Referring expressions on PhraseCut, by text and by visual prompt.

    Prompts that name what is in the image make mIoU (mean over prompts), IoU_FG, IoU_BIN, AP and
    exact AP; phrases that are absent make the rates of false positives. Each is given at the
    paper's thresholds, at the `best` of the 49 (chosen on the very set, as the paper's Table 9
    does) and at the one `kept` in the checkpoint. Both together make the numbers of `presence`;
    no mask is emptied by them here.

    Args:
        readings: "text", "visual" or both.

    Reference: paper section 5.1, Tables 3 and 9.
    """

    def __init__(self, readings: Sequence[Reading] = ("text", "visual")) -> None:
        """Create the metrics of each reading."""
        super().__init__(readings)
        self.named = Overlaps(self.readings)
        self.text_absent, self.visual_absent = FalsePositives(), FalsePositives()
        self.text_presence, self.visual_presence = Presence(), Presence()

    def update(self, reading: Reading, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure the (K, 1, H, W) logits of the K selected of P prompts."""
        probability = logits.float().sigmoid()
        absent = batch["negative"][selected]
        target, valid = batch["query_mask"][selected], batch["valid_mask"][selected]
        classes = batch["class_id"][selected]
        self.named[reading].update(
            probability[~absent], target[~absent], valid[~absent], classes[~absent]
        )
        counted = histograms(probability[absent], target[absent], valid[absent])
        self._absent(reading).update(counted)
        self._presence(reading).update(presence(probability), absent)

    def compute(
        self, kept_threshold: float | None, kept_cut: float | None = None
    ) -> dict[str, float]:
        """Return every number, named `<reading>/<metric>`."""
        numbers = self.named.compute(kept_threshold)
        for reading in self.readings:
            rate, area, prompts = self._absent(reading).compute()
            curves = {"absent_rate": rate, "absent_area": area} if prompts else {}
            absent = {"absent_prompts": prompts, **at_thresholds(curves, kept_threshold)}
            absent |= self._told_apart(reading, kept_cut)
            numbers |= {f"{reading}/{name}": value for name, value in absent.items()}
        return numbers

    def _told_apart(self, reading: Reading, kept_cut: float | None) -> dict[str, float]:
        counts = self._presence(reading).compute()
        if counts is None:
            return {}
        cuts = {"best": best_cut(counts)} | ({} if kept_cut is None else {"kept": kept_cut})
        accuracy = {
            f"presence_accuracy@{label}": balanced_accuracy(counts, cut)
            for label, cut in cuts.items()
        }
        return {"presence_auc": presence_auc(counts), **accuracy, "absent_cut@best": cuts["best"]}

    def report(self, kept_threshold: float | None) -> Report:
        """Curves, and IoU by size of the target, for each reading."""
        return self.named.report(kept_threshold, self.classes.names)

    def reset(self) -> None:
        """Forget what was measured."""
        for metric in (
            self.named,
            self.text_absent,
            self.visual_absent,
            self.text_presence,
            self.visual_presence,
        ):
            metric.reset()

    def best_threshold(self) -> float:
        """The threshold of the best mIoU, by text where text is read."""
        return best(self.named[self._kept_reading].miou())

    def best_cut(self) -> float | None:
        """The cut of the best balanced accuracy, by text where text is read.

        None where no phrase was absent, or none there.
        """
        counts = self._presence(self._kept_reading).compute()
        return None if counts is None else best_cut(counts)

    @property
    def _kept_reading(self) -> Reading:
        """Whose threshold and cut a checkpoint keeps."""
        return "text" if "text" in self.readings else "visual"

    def _absent(self, reading: Reading) -> FalsePositives:
        return self.text_absent if reading == "text" else self.visual_absent

    def _presence(self, reading: Reading) -> Presence:
        return self.text_presence if reading == "text" else self.visual_presence
