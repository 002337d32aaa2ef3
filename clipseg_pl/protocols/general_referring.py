"""Referring expression segmentation on the RefCOCO family, with expressions without a target."""

from collections.abc import Sequence

from torch import Tensor, nn

from clipseg_pl.metrics.functional import histograms, presence
from clipseg_pl.metrics.presence import best_cut, presence_metrics
from clipseg_pl.metrics.referring import ReferringCounts
from clipseg_pl.protocols.base import PromptType, Protocol
from clipseg_pl.protocols.overlap import (
    Report,
    at_target_size,
    at_thresholds,
    best,
    by_threshold,
    threshold_to_store,
)
from clipseg_pl.sample import Batch

_HIGHEST = ("oiou", "miou", "giou", "ciou")
"""metrics whose highest value over the thresholds is reported, too"""


class GeneralReferringProtocol(Protocol):
    """Evaluate referring expressions on RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO and RefCOCO-M.

    Expressions with a target are evaluated by oIoU (`oiou`, summed intersections over summed
    unions), mIoU (`miou`, mean over expressions) and Pr@X (`pr50` to `pr90`, share of expressions
    with an IoU of at least X).

    If some expressions have no target, gIoU (`giou`), cIoU (`ciou`), N-acc (`n_acc`, share of
    expressions without a target that are recognised) and T-acc (`t_acc`, share of the other
    expressions for which something is predicted) are computed over all expressions. An expression
    counts as "no target" if its mask is empty at the threshold. With `@stored`, an expression also
    counts as "no target" if its presence score is below the absent cut that the checkpoint stores.
    The cut does not change `oiou`, `miou` and `pr50` to `pr90`.

    Masks are compared at the size of the target: the photo's own size, or the model's, set by
    `RefCOCODataModule.mask_size`. Probabilities are resized as in `segment`.

    Args:
        prompt_types: any of "text", "visual" and "blend", see `Protocol`. Evaluation data of the
            RefCOCO family has text prompts only.

    Reference: LAVT (Yang et al., CVPR 2022); GRES (Liu et al., CVPR 2023).
    """

    def __init__(self, prompt_types: Sequence[PromptType] = ("text",)) -> None:
        super().__init__(prompt_types)
        self.counts = nn.ModuleDict({name: ReferringCounts() for name in prompt_types})

    def predicted(self, prompt_type: PromptType, batch: Batch) -> Tensor:
        """Return the prompts that `predict` writes masks of: also those without a target."""
        return self.selected(prompt_type, batch)

    def update(
        self, prompt_type: PromptType, logits: Tensor, batch: Batch, selected: Tensor
    ) -> None:
        """Update the metrics with the (K, 1, H, W) logits of the K selected prompts."""
        probability = logits.float().sigmoid()
        score, without_target = presence(probability), batch["negative"][selected]
        for same in at_target_size(probability, batch, selected, align_corners=False):
            pixels = histograms(same.probability, same.target, same.valid)
            self._counts(prompt_type).update(pixels, score[same.rows], without_target[same.rows])

    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `<prompt_type>/<metric>`."""
        numbers = dict[str, float]()
        for prompt_type in self.prompt_types:
            totals = self._counts(prompt_type).compute()
            prompts, without = totals.having + totals.without, totals.without
            own: dict[str, float] = {"prompts": prompts, "no_target_prompts": without}
            if prompts:
                curves = totals.curves() | (totals.generalised() if without else {})
                highest = {
                    f"{name}@best": float(curves[name].max()) for name in _HIGHEST if name in curves
                }
                own |= highest | {"threshold@best": best(curves["miou"])}
                cut = totals.generalised(stored_cut or 0.0) if without else {}
                own |= at_thresholds(curves | cut, stored_threshold)
                own |= at_thresholds(curves, None)  # the cut is used at the stored threshold only
            own |= presence_metrics(totals.presence(), stored_cut)
            numbers |= {f"{prompt_type}/{name}": value for name, value in own.items()}
        return numbers

    def report(self, stored_threshold: float | None) -> Report:
        """Return oIoU and mIoU by threshold, and gIoU and cIoU if expressions have no target."""
        tables = Report()
        for prompt_type in self.prompt_types:
            totals = self._counts(prompt_type).compute()
            curves = totals.curves() if totals.having else {}
            curves |= totals.generalised() if totals.without else {}
            tables |= {
                f"{prompt_type}: {name} by threshold": by_threshold(curves[name])
                for name in _HIGHEST
                if name in curves
            }
        return tables

    def reset(self) -> None:
        """Reset all metrics."""
        for prompt_type in self.prompt_types:
            self._counts(prompt_type).reset()

    def best_threshold(self) -> float | None:
        """Return the threshold with the best mIoU of the first prompt type."""
        return threshold_to_store(self._counts(self.prompt_types[0]).compute().curves()["miou"])

    def best_cut(self) -> float | None:
        """Return the absent cut with the best balanced accuracy of the first prompt type.

        None if all or no expressions have a target.
        """
        counts = self._counts(self.prompt_types[0]).compute().presence()
        return None if counts is None else best_cut(counts)

    def _counts(self, prompt_type: PromptType) -> ReferringCounts:
        counts = self.counts[prompt_type]
        assert isinstance(counts, ReferringCounts)
        return counts
