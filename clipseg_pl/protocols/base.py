"""What every protocol offers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from clipseg_pl.protocols.overlap import Report
from clipseg_pl.sample import Batch, Classes, has_support

Reading = Literal["text", "visual", "blend"]
"""by the words, by the supports, or by both, weighted as the batch says"""
TEXT_WEIGHT: dict[Reading, tuple[float, float]] = {
    "text": (1, 1),
    "visual": (0, 0),
    "blend": (0, 1),
}
"""least and most that the words may weigh in a reading"""


class Protocol(nn.Module, ABC):
    """One way to evaluate.

    Args:
        readings: prompt types that every batch is evaluated with, each with numbers of its own; the
            images are encoded once for all of them. The first one decides which checkpoint is
            best (see `monitor`) and which threshold and absent cut are stored in it.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        """Keep the prompt types.

        Raises:
            ValueError: if there is none, an unknown one, or one twice.
        """
        super().__init__()
        if not readings or set(readings) - set(TEXT_WEIGHT) or len(set(readings)) < len(readings):
            raise ValueError(
                f"protocol.readings must be one or more distinct of {', '.join(TEXT_WEIGHT)}, not "
                f"{list(readings)}"
            )
        self.readings = tuple(readings)
        self.classes = Classes()
        """of the data that is evaluated, set before it is"""

    def selected(self, reading: Reading, batch: Batch) -> Tensor:
        """Which prompts a reading is for: all for text, those with supports for visual: (P,)."""
        present = has_support(batch)
        return present if reading == "visual" else torch.ones_like(present)

    @abstractmethod
    def update(self, reading: Reading, logits: Tensor, batch: Batch, selected: Tensor) -> None:
        """Measure the (K, 1, H, W) logits of the K selected of P prompts."""

    @abstractmethod
    def compute(
        self, kept_threshold: float | None, kept_cut: float | None = None
    ) -> dict[str, float]:
        """Return every number, named `<reading>/<metric>`.

        Args:
            kept_threshold: the checkpoint's own, adds `@kept` where it is known.
            kept_cut: the same of the cut below which a prompt is judged absent.
        """

    def report(self, kept_threshold: float | None) -> Report:
        """Break the numbers down: title -> name -> number; by default there is nothing.

        Args:
            kept_threshold: as for `compute`.
        """
        return {}

    @abstractmethod
    def reset(self) -> None:
        """Forget what was measured."""

    @property
    def monitor(self) -> str:
        """The number that `best.ckpt` follows, higher is better."""
        return f"{self.readings[0]}/miou@best"

    @abstractmethod
    def best_threshold(self) -> float | None:
        """The threshold that a checkpoint should keep after this evaluation, if there is one."""

    def best_cut(self) -> float | None:
        """The score below which use on photos should judge a prompt absent; by default unknown."""
        return None
