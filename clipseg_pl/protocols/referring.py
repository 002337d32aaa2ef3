"""Referring expressions: PhraseCut by text and by visual prompt."""

from collections.abc import Sequence

from torch import Tensor

from clipseg_pl.metrics.functional import histograms
from clipseg_pl.metrics.threshold_counts import FalsePositives
from clipseg_pl.protocols.base import Protocol, Reading
from clipseg_pl.protocols.overlap import Overlaps, Report, at_thresholds, best
from clipseg_pl.sample import Batch


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
        self.named = Overlaps(self.readings)
        self.text_absent, self.visual_absent = FalsePositives(), FalsePositives()

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

    def compute(self, kept_threshold: float | None) -> dict[str, float]:
        """Return every number, named `<reading>/<metric>`."""
        numbers = self.named.compute(kept_threshold)
        for reading in self.readings:
            rate, area, prompts = self._absent(reading).compute()
            curves = {"absent_rate": rate, "absent_area": area} if prompts else {}
            absent = {"absent_prompts": prompts, **at_thresholds(curves, kept_threshold)}
            numbers |= {f"{reading}/{name}": value for name, value in absent.items()}
        return numbers

    def report(self, kept_threshold: float | None) -> Report:
        """Curves, and IoU by size of the target, for each reading."""
        return self.named.report(kept_threshold, self.classes.names)

    def reset(self) -> None:
        """Forget what was measured."""
        for metric in (self.named, self.text_absent, self.visual_absent):
            metric.reset()

    def best_threshold(self) -> float:
        """The threshold of the best mIoU, by text where text is read."""
        return best(self.named["text" if "text" in self.readings else "visual"].miou())

    def _absent(self, reading: Reading) -> FalsePositives:
        return self.text_absent if reading == "text" else self.visual_absent
