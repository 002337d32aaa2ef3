"""Referring expressions: PhraseCut by text and by visual prompt."""

from collections.abc import Sequence

from torch import Tensor, nn

from clipseg_pl.metrics.functional import histograms, presence
from clipseg_pl.metrics.presence import Presence, balanced_accuracy, best_cut, presence_auc
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
        readings: any of "text", "visual" and "blend"; see `Protocol`.

    Reference: paper section 5.1, Tables 3 and 9.
    """

    def __init__(self, readings: Sequence[Reading] = ("text", "visual")) -> None:
        """Create the metrics of each reading."""
        super().__init__(readings)
        self.named = Overlaps(self.readings)
        self.absent = nn.ModuleDict({reading: FalsePositives() for reading in readings})
        self.presence = nn.ModuleDict({reading: Presence() for reading in readings})

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
        self.named.reset()
        for reading in self.readings:
            self._absent(reading).reset()
            self._presence(reading).reset()

    def best_threshold(self) -> float:
        """The threshold of the best mIoU of the first reading."""
        return best(self.named[self.readings[0]].miou())

    def best_cut(self) -> float | None:
        """The cut of the best balanced accuracy of the first reading.

        None if no phrase was absent, or all were.
        """
        counts = self._presence(self.readings[0]).compute()
        return None if counts is None else best_cut(counts)

    def _absent(self, reading: Reading) -> FalsePositives:
        metric = self.absent[reading]
        assert isinstance(metric, FalsePositives)
        return metric

    def _presence(self, reading: Reading) -> Presence:
        metric = self.presence[reading]
        assert isinstance(metric, Presence)
        return metric
