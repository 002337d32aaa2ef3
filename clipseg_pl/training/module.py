"""LightningModule for training and evaluation. Checkpoints omit the frozen backbone."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import NoneType
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import AdamW

from clipseg_pl.convert.loading import start_from
from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.clipseg import CLIPSeg, DecoderFactory
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.protocols.base import TEXT_WEIGHT, Predictions, PromptType, Protocol, Segment
from clipseg_pl.protocols.overlap import Report
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.sample import Batch, Classes
from clipseg_pl.training.faults import reject_empty_evaluation, reject_loss
from clipseg_pl.training.losses import MaskLoss
from clipseg_pl.training.schedule import CosineSchedule
from clipseg_pl.training.seen_photos import SeenPhotos, add_ids

_MODEL = "model."
_BCE = MaskLoss()
_PLAIN = (str, int, float, dict, NoneType)
"""types of the settings that the command line passes"""


class CLIPSegModule(LightningModule):
    """Trains the decoder of CLIPSeg, optionally with blocks of CLIP, and evaluates the model.

    Args:
        backbone: frozen backbone. Checkpoints contain its name and its `stored_state`, not its
            other weights.
        decoder: factory that builds the trained decoder for the backbone.
        optimizer: optimizer of the decoder's parameters. The paper uses AdamW with lr 1e-3.
        min_lr: learning rate at the last step, see `CosineSchedule`.
        warmup_steps: steps in which the learning rate rises, see `CosineSchedule`.
        loss: weights of the terms of the loss; the paper's binary cross-entropy by default.
        unfreeze_blocks: number of blocks of the backbone to train, counted backwards from the
            deepest tapped layer; the paper trains none. Checkpoints contain these blocks.
        backbone_lr: initial learning rate of these blocks. It follows the cosine of the decoder's
            rate. The default is a hundredth of the decoder's: AdamW changes a weight by up to the
            rate in every step, and the weights are small (standard deviation 0.02 to 0.09 in the
            toy CLIP), so the decoder's rate could overwrite them within 100 steps.
        protocol: prompt types and metrics of `validate` and `test`; not stored in checkpoints.
        init_decoder: file with initial weights, in any format that `load_model` reads.
        compile: compile the backbone and the decoder with torch.compile.

    Reference: paper, section 5 and appendix.
    """

    def __init__(
        self,
        backbone: Backbone,
        decoder: DecoderFactory = FiLMDecoder,
        optimizer: OptimizerCallable = AdamW,
        min_lr: float = 1e-4,
        warmup_steps: int = 0,
        loss: MaskLoss = _BCE,
        unfreeze_blocks: int = 0,
        backbone_lr: float = 1e-5,
        protocol: Protocol | None = None,
        init_decoder: str | None = None,
        compile: bool = False,
    ) -> None:
        """Build the model and store its configuration as plain values."""
        super().__init__()
        self.save_hyperparameters(
            ignore=["backbone", "loss", "protocol", "init_decoder", "compile"]
        )
        # the command line passes plain values; saving objects passed in Python would copy weights
        if "_instantiator" in self.hparams:
            self.save_hyperparameters("backbone", "loss")
        self.model = CLIPSeg(backbone, decoder, unfreeze_blocks)
        self._excluded_before: Sequence[str] | None = None
        self._trained_ids: Tensor | None = torch.empty(0, dtype=torch.long)
        """COCO ids of the photos that the loaded weights were trained on; None if unknown"""
        if init_decoder:
            stored = start_from(self.model, init_decoder)
            self._excluded_before = stored.get("excluded") or ()
            self._trained_ids = stored.get("coco_ids")
        if compile:
            backbone.activations = torch.compile(backbone.activations)  # type: ignore[method-assign]
            self.model.decoder.compile()
        self.optimizer, self.loss = optimizer, loss
        self.min_lr, self.warmup_steps, self.backbone_lr = min_lr, warmup_steps, backbone_lr
        self.protocol = protocol or ReferringProtocol()
        self.threshold: float | None = None
        """best threshold of the last validation during training; stored in checkpoints"""
        self.absent_cut: float | None = None
        """best absent cut of the last validation during training; stored in checkpoints. A prompt
        counts as absent if its presence score is below the cut"""
        self.class_thresholds: dict[str, float] = {}
        """phrase -> best threshold of its class in the last validation during training; stored in
        checkpoints. Empty if the protocol has none"""
        self._steps_loaded = 0
        self.numbers: dict[str, float] = {}
        """metrics of the last evaluation by name"""
        self.report: Report = {}
        """breakdown of the last evaluation, see `Protocol.report`"""
        self.seen_photos: SeenPhotos | None = None
        """photos of the last evaluation that the weights were trained on; None during training, or
        if no evaluated photo is COCO's"""

    def setup(self, stage: str) -> None:
        """Pass the classes of the data to the protocol.

        Raises:
            ValueError: if a callback would average the frozen backbone.
        """
        if any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise ValueError(
                "lightning's weight averaging includes the frozen backbone: use the callback "
                "clipseg_pl.training.callbacks.ema.WeightEMA"
            )
        data = getattr(self.trainer, "datamodule", None)
        self.protocol.classes = getattr(data, "classes", Classes())

    @property
    def steps_trained(self) -> int:
        """Number of steps the weights were trained for; evaluations read it from the checkpoint."""
        return self.trainer.global_step or self._steps_loaded

    def forward(self, batch: Batch) -> Tensor:
        """Return (P, 1, H, W) logits; `mix_weight` blends text and visual prompts."""
        conditional = self.model.conditional(
            batch["text_prompt"], batch["visual_prompt"], batch["prompt_index"], batch["mix_weight"]
        )
        return self.model(batch["query_image"], conditional, batch["query_index"])  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch.

        Raises:
            FloatingPointError: if the loss is not finite, see `reject_loss`.
        """
        logits = self(batch)
        terms = self.loss.terms(logits, batch)
        loss = self.loss.weighted(terms)
        reject_loss(loss, logits, batch, self.trainer)
        prompts = len(batch["phrase"])
        self.log("train/loss", loss, prog_bar=True, batch_size=prompts)
        if len(terms) > 1:
            parts = {f"train/loss_{name}": term for name, term in terms.items()}
            self.log_dict(parts, batch_size=prompts)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401
        """Make lightning validate after the last step. Each validation also saves a checkpoint."""
        if self.trainer.global_step >= self.trainer.max_steps:
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        """Count the evaluated photos that the weights were trained on, except during training."""
        self._count_seen("val", self.trainer.num_val_batches)

    def on_test_epoch_start(self) -> None:
        """Count the evaluated photos that the weights were trained on."""
        self._count_seen("test", self.trainer.num_test_batches)

    def _count_seen(self, split: str, batches: Sequence[int | float]) -> None:
        data: Any = getattr(self.trainer, "datamodule", None)
        ids = data.coco_ids(split) if hasattr(data, "coco_ids") else None
        self.seen_photos = None
        if ids is not None and self.trainer.state.fn != "fit":
            # the first process reports the counts; it has the most batches
            samples = int(batches[0]) * data.batch_size * self.trainer.world_size
            self.seen_photos = SeenPhotos(self.protocol, ids, self._trained_ids, samples)

    def validation_step(self, batch: Batch, batch_idx: int) -> Predictions:
        """Evaluate every prompt with each of the protocol's prompt types."""
        if not batch["phrase"]:  # this rank has an empty batch
            return {}
        predictions = self.protocol.evaluate(batch, self._segmenter(batch))
        if self.seen_photos is not None:
            self.seen_photos.update(batch, predictions)
        return predictions

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor] | None:
        """Segment a batch with the protocol's first prompt type, see `Protocol.predicted`.

        Returns:
            (K, 1, H, W) probabilities and the (P,) bool mask that selects these K of the P prompts;
            None for an empty batch.
        """
        if not batch["phrase"]:
            return None
        prompt_type = self.protocol.prompt_types[0]
        named = self.protocol.predicted(prompt_type, batch)
        return self._segmenter(batch)(prompt_type, named).float().sigmoid(), named

    def segment(self, batch: Batch) -> Predictions:
        """Segment by each prompt type, encoding the images once.

        Returns:
            For each prompt type, (K, 1, H, W) logits and the (P,) bool mask that selects these K of
            the P prompts.
        """
        return self.protocol.predict(batch, self._segmenter(batch))

    def _segmenter(self, batch: Batch) -> Segment:
        """Encode the images of a batch once, and return a function that segments them.

        The prompts are also embedded only once for each prompt type.
        """
        encoding, query_index = self.model.encode(batch["query_image"]), batch["query_index"]

        @cache
        def conditional(prompt_type: PromptType) -> Tensor:
            weight = batch["mix_weight"].clamp(*TEXT_WEIGHT[prompt_type])
            supports = batch["visual_prompt"][: 0 if prompt_type == "text" else None]
            return self.model.conditional(
                batch["text_prompt"], supports, batch["prompt_index"][: len(supports)], weight
            )

        def segment(prompt_type: PromptType, selected: Tensor) -> Tensor:
            chosen = conditional(prompt_type)[selected]
            return self.model.decode(encoding, chosen, query_index[selected])

        return segment

    def on_validation_epoch_end(self) -> None:
        """Log the metrics and, during training, store the best thresholds and absent cut."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics."""
        self._report("test")

    def _report(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            self.protocol.reset()
            return
        if self.trainer.state.fn == "fit":
            self.threshold = self.protocol.best_threshold()
            self.absent_cut = self.protocol.best_cut()
            self.class_thresholds = self.protocol.best_class_thresholds()
        self.protocol.class_thresholds = self.class_thresholds
        numbers = self.protocol.compute(self.threshold, self.absent_cut)
        reject_empty_evaluation(numbers, self.protocol.prompt_types)
        self.numbers = {f"{stage}/{name}": value for name, value in numbers.items()}
        self.report = self.protocol.report(self.threshold)
        self.protocol.reset()
        if self.seen_photos is not None:
            stored = self.threshold, self.absent_cut, self.class_thresholds
            self.seen_photos.compute(stage, *stored)
        self.log_dict(self.numbers, sync_dist=True)  # sync_dist avoids a warning only: ranks agree

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of six types
        """Return the optimizer of the trained parameters and its cosine schedule."""
        blocks, decoder = (
            [p for p in part.parameters() if p.requires_grad]
            for part in (self.model.backbone, self.model.decoder)
        )
        groups: list[dict[str, Any]] = [{"params": decoder}]
        if blocks:
            groups.append({"params": blocks, "lr": self.backbone_lr})
        optimizer = self.optimizer(groups)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = CosineSchedule(optimizer, self.min_lr, steps, self.warmup_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Drop weights that can be reloaded by the backbone's name; add settings for inference."""
        state = checkpoint["state_dict"]
        stored = {k: v for k, v in state.items() if self.model.is_stored(k.removeprefix(_MODEL))}
        checkpoint["state_dict"] = stored
        given = checkpoint.get("hyper_parameters", {})
        # a model built in Python passes objects and factories, which only pickle could restore
        plain = {key: value for key, value in given.items() if isinstance(value, _PLAIN)}
        described, decoder = plain.get("decoder"), self.model.decoder
        if isinstance(described, dict) and type(decoder) is FiLMDecoder:
            # the number, not null: the default depends on the backbone, and may change
            size = {"feedforward": decoder.settings["feedforward"]}
            arguments = {**described.get("init_args", {}), **size}
            plain["decoder"] = {**described, "init_args": arguments}
        checkpoint["hyper_parameters"] = plain
        checkpoint["threshold"], checkpoint["absent_cut"] = self.threshold, self.absent_cut
        checkpoint["class_thresholds"] = self.class_thresholds
        checkpoint["layers"] = sorted(self.model.decoder.layers)
        data: Any = getattr(self.trainer, "datamodule", None)
        checkpoint["image_size"] = getattr(data, "image_size", None)
        excluded, before = getattr(data, "excluded", []), self._excluded_before
        checkpoint["excluded"] = [name for name in excluded if before is None or name in before]
        checkpoint["coco_ids"] = None
        if self._trained_ids is not None and hasattr(data, "coco_ids"):
            checkpoint["coco_ids"] = add_ids(self._trained_ids, data.coco_ids("train"))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the thresholds, absent cut, steps, excluded classes and COCO ids."""
        self.model.decoder.check_layers(checkpoint.get("layers"))
        self.threshold = checkpoint.get("threshold")
        self.absent_cut = checkpoint.get("absent_cut")  # not in older checkpoints
        self.class_thresholds = checkpoint.get("class_thresholds", {})
        self._steps_loaded = checkpoint.get("global_step", 0)
        self._excluded_before = checkpoint.get("excluded", ())
        self._trained_ids = checkpoint.get("coco_ids")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's named tuple has no public name
        """Load the weights of a checkpoint; see `CLIPSeg.load_state_dict`."""
        weights = {key.removeprefix(_MODEL): value for key, value in state_dict.items()}
        return self.model.load_state_dict(weights, strict, assign)
