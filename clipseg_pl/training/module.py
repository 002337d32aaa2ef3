"""The LightningModule: one step for training and evaluation, decoder-only checkpoints."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from clipseg_pl.convert.loading import start_from
from clipseg_pl.models.backbone import Backbone
from clipseg_pl.models.clipseg import CLIPSeg, DecoderFactory, Encoding
from clipseg_pl.models.decoder import FiLMDecoder
from clipseg_pl.protocols.base import TEXT_WEIGHT, Protocol, Reading
from clipseg_pl.protocols.overlap import Report
from clipseg_pl.protocols.referring import ReferringProtocol
from clipseg_pl.sample import Batch, Classes
from clipseg_pl.training.faults import refuse_loss, refuse_nothing
from clipseg_pl.training.schedule import CosineSchedule

Answers = Mapping[str, tuple[Tensor, Tensor]]

_MODEL = "model."


class CLIPSegModule(LightningModule):
    """Trains the decoder of CLIPSeg, and evaluates it under a protocol.

    Args:
        backbone: frozen; a checkpoint has its name and not its weights, but for its `kept_state`.
        decoder: builds the trained part for that backbone.
        optimizer: over the decoder's parameters; the paper's is AdamW, lr 1e-3.
        min_lr: learning rate at the last step, see `CosineSchedule`.
        protocol: how `validate` and `test` read masks out and what they measure; not part of a
            checkpoint.
        init_decoder: weights to start from, of any origin that `load_model` reads.
        compile: run the backbone and the decoder through torch.compile.

    Reference: paper section 5 and its appendix.
    """

    def __init__(
        self,
        backbone: Backbone,
        decoder: DecoderFactory = FiLMDecoder,
        optimizer: OptimizerCallable = AdamW,
        min_lr: float = 1e-4,
        protocol: Protocol | None = None,
        init_decoder: str | None = None,
        compile: bool = False,
    ) -> None:
        """Compose the model and remember, in plain values, what it is."""
        super().__init__()
        with warnings.catch_warnings():
            # under the command line these are plain values; on_save_checkpoint sees to the rest
            warnings.filterwarnings("ignore", ".*is an instance of `nn.Module`.*")
            self.save_hyperparameters(ignore=["protocol", "init_decoder", "compile"])
        self.model = CLIPSeg(backbone, decoder)
        self._excluded_before: Sequence[str] | None = None
        if init_decoder:
            self._excluded_before = start_from(self.model, init_decoder)
        if compile:
            backbone.activations = torch.compile(backbone.activations)  # type: ignore[method-assign]
            self.model.decoder.compile()
        self.optimizer, self.min_lr = optimizer, min_lr
        self.protocol = protocol or ReferringProtocol()
        self.threshold: float | None = None
        """best threshold of the last validation while training; kept in checkpoints"""
        self.absent_cut: float | None = None
        """the same of the presence below which a prompt is judged absent from a photo"""
        self._steps_loaded = 0
        self.numbers: dict[str, float] = {}
        """what the last evaluation measured, by name"""
        self.report: Report = {}
        """the same broken down, see `Protocol.report`"""

    def setup(self, stage: str) -> None:
        """Tell the protocol what the data's class ids stand for."""
        data = getattr(self.trainer, "datamodule", None)
        self.protocol.classes = getattr(data, "classes", Classes())

    @property
    def steps_trained(self) -> int:
        """Steps that the weights have seen; an evaluation's trainer starts from 0."""
        return self.trainer.global_step or self._steps_loaded

    def forward(self, batch: Batch) -> Tensor:
        """Segment a batch as it was drawn: (P, 1, H, W) logits."""
        conditional = self.model.conditional(
            batch["text_prompt"], batch["visual_prompt"], batch["prompt_index"], batch["mix_weight"]
        )
        return self.model(batch["query_image"], conditional, batch["query_index"])  # type: ignore[no-any-return]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Binary cross-entropy, averaged over valid pixels of all prompts; see `refuse_loss`."""
        logits = self(batch)
        loss = self.loss(logits, batch)
        refuse_loss(loss, logits, batch, self.trainer)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["phrase"]))
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401
        """Have lightning validate, and so save, after the last step in any case."""
        if self.trainer.global_step >= self.trainer.max_steps:
            self.trainer.should_stop = True

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean binary cross-entropy over the valid pixels, in float32.

        Args:
            logits: (P, 1, H, W); of any floating type, since a sum over pixels overflows float16.
            batch: with its targets.
        """
        valid, logits = batch["valid_mask"], logits.float()
        target = batch["query_mask"].float()
        per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return (per_pixel * valid).sum() / valid.sum().clamp(min=1)

    def validation_step(self, batch: Batch, batch_idx: int) -> Answers:
        """Read every prompt in all of the protocol's ways and measure."""
        if not batch["phrase"]:  # this rank has nothing to evaluate
            return {}
        answers = self.read(batch)
        for reading in self.protocol.readings:
            logits, selected = answers[reading]
            self.protocol.update(reading, logits, batch, selected)
        return answers

    test_step = validation_step

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor] | None:
        """By the first reading, what is in the images; None where there is no image.

        Returns:
            (K, 1, H, W) probabilities of the prompts that are not `negative`, and which of the P
            prompts they are, (P,) bool.
        """
        if not batch["phrase"]:
            return None
        reading = self.protocol.readings[0]
        named = self.protocol.selected(reading, batch) & ~batch["negative"]
        logits = self._answer(self.model.encode(batch["query_image"]), batch, reading, named)
        return logits.float().sigmoid(), named

    def read(self, batch: Batch) -> Answers:
        """Segment by each reading, encoding the images once.

        Returns:
            For each reading, the (K, 1, H, W) logits of the prompts it selects, and which of the
            P prompts they are, (P,) bool.
        """
        encoding = self.model.encode(batch["query_image"])
        answers: dict[str, tuple[Tensor, Tensor]] = {}
        for reading in self.protocol.readings:
            selected = self.protocol.selected(reading, batch)
            answers[reading] = self._answer(encoding, batch, reading, selected), selected
        return answers

    def _answer(
        self, encoding: Encoding, batch: Batch, reading: Reading, selected: Tensor
    ) -> Tensor:
        """(K, 1, H, W) logits of the K selected of P prompts, read in one way."""
        weight = batch["mix_weight"].clamp(*TEXT_WEIGHT[reading])
        supports = batch["visual_prompt"][: 0 if reading == "text" else None]
        conditional = self.model.conditional(
            batch["text_prompt"], supports, batch["prompt_index"][: len(supports)], weight
        )
        return self.model.decode(encoding, conditional[selected], batch["query_index"][selected])

    def on_validation_epoch_end(self) -> None:
        """Log the numbers, and while training keep the best threshold and cut."""
        self._report("val")

    def on_test_epoch_end(self) -> None:
        """Log the numbers."""
        self._report("test")

    def _report(self, stage: str) -> None:
        if self.trainer.sanity_checking:
            self.protocol.reset()
            return
        if self.trainer.state.fn == "fit":
            self.threshold = self.protocol.best_threshold()
            self.absent_cut = self.protocol.best_cut()
        numbers = self.protocol.compute(self.threshold, self.absent_cut)
        refuse_nothing(numbers, self.protocol.readings)
        self.numbers = {f"{stage}/{name}": value for name, value in numbers.items()}
        self.report = self.protocol.report(self.threshold)
        self.protocol.reset()
        self.log_dict(self.numbers, sync_dist=True)  # equal on all ranks already

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's union of six types
        """The optimizer over what is trained, and a cosine over the steps of the run."""
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = CosineSchedule(optimizer, self.min_lr, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what the backbone's name gives back; add what use on photos needs."""
        state = checkpoint["state_dict"]
        stored = {k: v for k, v in state.items() if self.model.is_stored(k.removeprefix(_MODEL))}
        checkpoint["state_dict"] = stored
        given = checkpoint.get("hyper_parameters", {})
        # a model composed in Python has no description that could be read back without pickle
        plain = {k: v for k, v in given.items() if not isinstance(v, nn.Module) and not callable(v)}
        checkpoint["hyper_parameters"] = plain
        checkpoint["threshold"], checkpoint["absent_cut"] = self.threshold, self.absent_cut
        checkpoint["layers"] = sorted(self.model.decoder.layers)
        data = getattr(self.trainer, "datamodule", None)
        checkpoint["image_size"] = getattr(data, "image_size", None)
        excluded, before = getattr(data, "excluded", []), self._excluded_before
        checkpoint["excluded"] = [name for name in excluded if before is None or name in before]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over the threshold and cut, the number of steps and what was excluded so far."""
        self.model.decoder.check_layers(checkpoint.get("layers"))
        self.threshold = checkpoint.get("threshold")
        self.absent_cut = checkpoint.get("absent_cut")  # older checkpoints have none
        self._steps_loaded = checkpoint.get("global_step", 0)
        self._excluded_before = checkpoint.get("excluded", ())

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's named tuple has no public name
        """Load the weights of a checkpoint, see `CLIPSeg.load_state_dict`."""
        weights = {key.removeprefix(_MODEL): value for key, value in state_dict.items()}
        return self.model.load_state_dict(weights, strict, assign)
