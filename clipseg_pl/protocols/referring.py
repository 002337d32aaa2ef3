"""Referring expression segmentation on PhraseCut, by text and by visual prompt."""

from collections.abc import Sequence

from torch import Tensor, nn

from clipseg_pl.metrics.functional import Histograms, histograms, presence
from clipseg_pl.metrics.presence import Presence, best_cut, presence_metrics
from clipseg_pl.metrics.threshold_counts import FalsePositives
from clipseg_pl.protocols.base import PromptType, Protocol
from clipseg_pl.protocols.overlap import Overlaps, Report, at_thresholds, threshold_to_store
from clipseg_pl.sample import Batch


class ReferringProtocol(Protocol):
    """Evaluate referring expressions on PhraseCut, by text and by visual prompt.

    Present prompts, whose object is in the image, are evaluated by mIoU (mean over prompts),
    IoU_FG, IoU_BIN, AP and exact AP. Absent prompts are evaluated by the rate and area of false
    positives.

    Thresholded metrics are computed at the paper's thresholds, at the `best` of 49 thresholds and
    at the `stored` threshold of the checkpoint. The best threshold is chosen on the evaluated
    split, as in Table 9. See docs/deviations.md (best-threshold).

    The `presence` metrics measure how well presence scores separate present from absent prompts.
    `absent_cut` is the presence score below which a prompt is considered absent. All other metrics
    ignore the cut: masks of prompts below it are not emptied.

    Args:
        prompt_types: any of "text", "visual" and "blend", see `Protocol`.

    Reference: paper, section 5.1, Tables 3 and 9.
    """

    def __init__(self, prompt_types: Sequence[PromptType] = ("text", "visual")) -> None:
        super().__init__(prompt_types)
        self.present = Overlaps(self.prompt_types)
        self.absent = nn.ModuleDict({prompt_type: FalsePositives() for prompt_type in prompt_types})
        self.presence = nn.ModuleDict({prompt_type: Presence() for prompt_type in prompt_types})

    def update(
        self, prompt_type: PromptType, logits: Tensor, batch: Batch, selected: Tensor
    ) -> None:
        """Update the metrics with the (K, 1, H, W) logits of the K selected prompts."""
        probability = logits.float().sigmoid()
        absent = batch["negative"][selected]
        target, valid = batch["query_mask"][selected], batch["valid_mask"][selected]
        classes = batch["class_id"][selected]
        present = self.present[prompt_type].update(
            probability[~absent], target[~absent], valid[~absent], classes[~absent]
        )
        self.count_present(prompt_type, present, batch, selected & ~batch["negative"])
        counted = histograms(probability[absent], target[absent], valid[absent])
        self._absent(prompt_type).update(counted)
        self._presence(prompt_type).update(presence(probability), absent)

    def count_present(
        self, prompt_type: PromptType, pixels: Histograms, batch: Batch, present: Tensor
    ) -> None:
        """Add present prompts to the metrics of a subclass.

        Args:
            prompt_type: prompt type of the predictions.
            pixels: (K, T + 1) histograms of the K present prompts.
            batch: a batch with P prompts.
            present: (P,) bool, true for the K prompts.
        """

    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `<prompt_type>/<metric>`."""
        numbers = self.present.compute(stored_threshold)
        for prompt_type in self.prompt_types:
            rate, area, prompts = self._absent(prompt_type).compute()
            curves = {"absent_rate": rate, "absent_area": area} if prompts else {}
            absent = {"absent_prompts": prompts, **at_thresholds(curves, stored_threshold)}
            absent |= presence_metrics(self._presence(prompt_type).compute(), stored_cut)
            numbers |= {f"{prompt_type}/{name}": value for name, value in absent.items()}
        return numbers

    def report(self, stored_threshold: float | None) -> Report:
        """Return curves over thresholds and IoU by size of the target, for each prompt type."""
        return self.present.report(stored_threshold, self.classes.names)

    def reset(self) -> None:
        """Reset all metrics."""
        self.present.reset()
        for prompt_type in self.prompt_types:
            self._absent(prompt_type).reset()
            self._presence(prompt_type).reset()

    def best_threshold(self) -> float | None:
        """Return the threshold with the best mIoU of the first prompt type."""
        return threshold_to_store(self.present[self.prompt_types[0]].miou())

    def best_cut(self) -> float | None:
        """Return the absent cut with the best balanced accuracy of the first prompt type.

        None if all prompts were present or all were absent.
        """
        counts = self._presence(self.prompt_types[0]).compute()
        return None if counts is None else best_cut(counts)

    def _absent(self, prompt_type: PromptType) -> FalsePositives:
        metric = self.absent[prompt_type]
        assert isinstance(metric, FalsePositives)
        return metric

    def _presence(self, prompt_type: PromptType) -> Presence:
        metric = self.presence[prompt_type]
        assert isinstance(metric, Presence)
        return metric
