"""Base class of the evaluation protocols."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from clipseg_pl.protocols.overlap import Report
from clipseg_pl.sample import Batch, Classes, has_support, select_images

PromptType = Literal["text", "visual", "blend"]
"""text prompts, visual prompts, or a blend of both, weighted by the `mix_weight` of the batch"""
TEXT_WEIGHT: dict[PromptType, tuple[float, float]] = {
    "text": (1, 1),
    "visual": (0, 0),
    "blend": (0, 1),
}
"""minimum and maximum weight of the text for each prompt type; `mix_weight` is clamped to them"""
Predictions = Mapping[str, tuple[Tensor, Tensor]]
"""prompt type -> (K, 1, H, W) logits, and the (P,) bool mask that selects these K of P prompts;
class ids of the B images and (B,) bool from `SemanticProtocol`"""
Segment = Callable[[PromptType, Tensor], Tensor]
"""function that takes a prompt type and a (P,) bool mask, and returns the (K, 1, H, W) logits of
the K selected prompts of a batch"""


class Protocol(nn.Module, ABC):
    """Base class of the evaluation protocols.

    Args:
        prompt_types: every batch is evaluated with each of these prompt types, which have separate
            metrics. Each image is encoded only once. The first prompt type selects the best
            checkpoint (see `monitor`), and the threshold and the absent cut (the presence score
            below which a prompt is considered absent) that are stored in checkpoints.
    """

    def __init__(self, prompt_types: Sequence[PromptType]) -> None:
        """Check and store the prompt types.

        Raises:
            ValueError: if there is no prompt type, an unknown one, or a duplicate.
        """
        super().__init__()
        if (
            not prompt_types
            or set(prompt_types) - set(TEXT_WEIGHT)
            or len(set(prompt_types)) < len(prompt_types)
        ):
            raise ValueError(
                "protocol.prompt_types must contain one or more of "
                f"{', '.join(TEXT_WEIGHT)}, without duplicates, not {list(prompt_types)}"
            )
        self.prompt_types = tuple(prompt_types)
        self.classes = Classes()
        """classes of the evaluated data, set before the evaluation"""
        self.class_thresholds: Mapping[str, float] = {}
        """phrase -> threshold of its class stored in the checkpoint, set before `compute`"""

    def selected(self, prompt_type: PromptType, batch: Batch) -> Tensor:
        """Return (P,) bool, true for the prompts to evaluate with a prompt type.

        "visual" selects the prompts that have a support image. The other types select all prompts.
        """
        supported = has_support(batch)
        return supported if prompt_type == "visual" else torch.ones_like(supported)

    def predicted(self, prompt_type: PromptType, batch: Batch) -> Tensor:
        """Return (P,) bool, true for the prompts that `predict` writes masks of.

        Sampled negatives are left out.
        """
        return self.selected(prompt_type, batch) & ~batch["negative"]

    def predict(self, batch: Batch, segment: Segment) -> Predictions:
        """Segment a batch with every prompt type, without updating the metrics.

        Args:
            batch: a batch with P prompts.
            segment: function that returns the logits.
        """
        chosen = {name: self.selected(name, batch) for name in self.prompt_types}
        return {name: (segment(name, selected), selected) for name, selected in chosen.items()}

    def evaluate(self, batch: Batch, segment: Segment) -> Predictions:
        """Segment a batch with every prompt type, and update the metrics; see `predict`.

        Raises:
            ValueError: if the batch has label maps, which only `SemanticProtocol` evaluates.
        """
        if "label_map" in batch:
            raise ValueError(
                f"{type(self).__name__} cannot evaluate label maps: set --model.protocol "
                "clipseg_pl.protocols.semantic.SemanticProtocol"
            )
        predictions = self.predict(batch, segment)
        for prompt_type in self.prompt_types:
            logits, selected = predictions[prompt_type]
            self.update(prompt_type, logits, batch, selected)
        return predictions

    @abstractmethod
    def update(
        self, prompt_type: PromptType, logits: Tensor, batch: Batch, selected: Tensor
    ) -> None:
        """Update the metrics with a batch.

        Args:
            prompt_type: prompt type of the logits.
            logits: (K, 1, H, W) logits of the K selected prompts.
            batch: a batch with P prompts.
            selected: (P,) bool, the result of `selected`.
        """

    def update_images(self, predictions: Predictions, batch: Batch, keep: Tensor) -> None:
        """Update the metrics with some images of a batch.

        Args:
            predictions: predictions for the whole batch.
            batch: a batch with B images.
            keep: (B,) bool, true for the images to add, at least one.
        """
        part, prompts = select_images(batch, keep), keep[batch["query_index"]]
        for prompt_type in self.prompt_types:
            logits, selected = predictions[prompt_type]
            self.update(prompt_type, logits[prompts[selected]], part, selected[prompts])

    @abstractmethod
    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `<prompt_type>/<metric>`.

        Args:
            stored_threshold: threshold stored in the checkpoint; adds metrics with `@stored`.
            stored_cut: absent cut stored in the checkpoint; adds metrics with `@stored`.
        """

    def report(self, stored_threshold: float | None) -> Report:
        """Return detailed results: title -> name -> value; empty by default.

        Args:
            stored_threshold: threshold stored in the checkpoint.
        """
        return {}

    @abstractmethod
    def reset(self) -> None:
        """Reset all metrics."""

    @property
    def monitor(self) -> str:
        """Name of the metric that selects `best.ckpt`; higher is better."""
        return f"{self.prompt_types[0]}/miou@best"

    @abstractmethod
    def best_threshold(self) -> float | None:
        """Return the threshold to store in a checkpoint after this evaluation, if any."""

    def best_class_thresholds(self) -> dict[str, float]:
        """Return phrase -> threshold to store in a checkpoint; empty by default.

        All phrasings of a class have the same threshold.
        """
        return {}

    def best_cut(self) -> float | None:
        """Return the absent cut to store in a checkpoint; None by default."""
        return None
