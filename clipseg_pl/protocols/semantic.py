"""Semantic segmentation: every pixel belongs to the class whose prompt is the most probable."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassConfusionMatrix

from clipseg_pl.metrics.confusion import class_iou, semantic_metrics
from clipseg_pl.metrics.functional import PAPER_THRESHOLD
from clipseg_pl.protocols.base import Predictions, PromptType, Protocol, Segment
from clipseg_pl.protocols.overlap import Report
from clipseg_pl.sample import NO_CLASS, Batch, Classes

_AT_ONCE = 8
"""number of prompts that are decoded together"""
_COUNTED = 1 << 26
"""limit on the pixels that are counted together times the cells of the confusion matrix, since
torchmetrics allocates that many numbers in deterministic mode"""


class SemanticProtocol(Protocol):
    """Evaluate semantic segmentation on label maps, with class names as prompts.

    A pixel belongs to the class with the highest probability. A class with several phrasings has
    the probability of its most probable phrasing. If the data have a background class without a
    prompt, pixels whose probability is at or below the threshold for every prompt belong to it.

    Probabilities are resized to the size of the label map (bilinear). Prompts are decoded in
    chunks, and only the highest probability of each pixel so far is stored, so the peak memory does
    not depend on the number of classes.

    The metrics are computed from one confusion matrix over all pixels, see `semantic_metrics`.

    Args:
        background_threshold: probability that a prompt must exceed to claim a pixel, 0 to 1; not
            used if the background is not a class or has a prompt.
    """

    def __init__(self, background_threshold: float = PAPER_THRESHOLD) -> None:
        """Store the threshold.

        Raises:
            ValueError: if it is out of range.
        """
        super().__init__(["text"])
        if not 0 <= background_threshold <= 1:
            raise ValueError(f"background_threshold must be in [0, 1], not {background_threshold}")
        self.background_threshold = background_threshold

    @property
    def classes(self) -> Classes:
        """Classes of the evaluated data. Setting them resets the metrics."""
        return self._classes

    @classes.setter
    def classes(self, classes: Classes) -> None:
        self._classes = classes
        self.confusion = MulticlassConfusionMatrix(
            max(2, len(classes.names)), ignore_index=NO_CLASS, validate_args=False
        )

    def evaluate(self, batch: Batch, segment: Segment) -> Predictions:
        """Classify the pixels of a batch, and update the metrics.

        Returns:
            "text" -> (B, 1, H, W) int16 class ids of the pixels, at the sizes of the label maps,
            and (B,) bool, true. The logits of all prompts are never in memory together.

        Raises:
            ValueError: if the batch has no label maps, or a logit is NaN.
        """
        if "label_map" not in batch:
            raise ValueError(
                "SemanticProtocol needs label maps: set --data "
                "datamodules.label_maps.LabelMapsDataModule"
            )
        sizes, device = batch["query_size"].tolist(), batch["query_image"].device
        unclaimed = self._background()
        start = -1.0 if unclaimed is None else self.background_threshold
        highest = [torch.full(size, start, device=device) for size in sizes]
        predicted = torch.full_like(batch["label_map"], unclaimed or 0)
        winner = [ids[:h, :w] for ids, (h, w) in zip(predicted[:, 0], sizes, strict=True)]
        owners, classes = batch["query_index"].tolist(), batch["class_id"].tolist()
        prompts = torch.arange(len(owners), device=device)
        for chunk in torch.split(prompts, _AT_ONCE):
            probability = segment("text", torch.isin(prompts, chunk)).float().sigmoid()
            if probability.isnan().any():
                raise ValueError("probabilities must be in [0, 1], not NaN")
            for row, prompt in zip(probability, chunk.tolist(), strict=True):
                image = owners[prompt]
                score = F.interpolate(row[None], sizes[image], mode="bilinear", antialias=True)
                higher = score[0, 0] > highest[image]
                winner[image].masked_fill_(higher, classes[prompt])
                torch.maximum(highest[image], score[0, 0], out=highest[image])
        every = torch.ones(len(sizes), dtype=torch.bool, device=device)
        predictions = {"text": (predicted, every)}
        self.update_images(predictions, batch, every)
        return predictions

    def update(
        self, prompt_type: PromptType, logits: Tensor, batch: Batch, selected: Tensor
    ) -> None:
        """Update the metrics with the (P, 1, H, W) logits of all prompts."""
        self.evaluate(batch, lambda _, chunk: logits[chunk])

    def update_images(self, predictions: Predictions, batch: Batch, keep: Tensor) -> None:
        """Update the metrics with some images of a batch."""
        pixels = max(1, _COUNTED // self.confusion.num_classes**2)
        predicted, labels = predictions["text"][0][keep], batch["label_map"][keep]
        for pair in zip(
            torch.split(predicted.flatten(), pixels),
            torch.split(labels.flatten(), pixels),
            strict=True,
        ):
            self.confusion.update(*pair)

    def _background(self) -> int | None:
        """Return the id of the class without a prompt; None if every class has one."""
        of_classes = self.classes.phrasings
        return next((number for number, words in enumerate(of_classes) if not words), None)

    def compute(
        self, stored_threshold: float | None, stored_cut: float | None = None
    ) -> dict[str, float]:
        """Return all metrics, named `text/<metric>`. They do not depend on a stored threshold.

        `text/pixels` is the number of pixels that are not ignored.
        """
        pixels = self.confusion.compute()
        numbers = {**semantic_metrics(pixels), "pixels": int(pixels.sum())}
        return {f"text/{name}": value for name, value in numbers.items()}

    def report(self, stored_threshold: float | None) -> Report:
        """Return the IoU of the classes that occur in the labels or the predictions."""
        pixels = self.confusion.compute()
        occurs = (pixels.sum(0) + pixels.sum(1)).tolist()
        found = zip(self.classes.names, class_iou(pixels).tolist(), occurs, strict=False)
        return {"text: iou by class": {name: iou for name, iou, counted in found if counted}}

    def reset(self) -> None:
        """Reset all metrics."""
        self.confusion.reset()

    @property
    def monitor(self) -> str:
        """Name of the metric that selects `best.ckpt`."""
        return "text/miou"

    def best_threshold(self) -> None:
        """Return None, since pixels are classified without a stored threshold."""
