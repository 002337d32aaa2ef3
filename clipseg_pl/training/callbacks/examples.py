"""Example pictures of an evaluation: the prompts with the best, median and worst IoU."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from clipseg_pl.atomic import write_whole
from clipseg_pl.metrics.functional import (
    THRESHOLDS,
    counts_at_thresholds,
    histograms,
    iou_foreground,
    threshold_in_use,
)
from clipseg_pl.protocols.overlap import position
from clipseg_pl.sample import Batch, collate
from clipseg_pl.training.callbacks.panels import draw_example
from clipseg_pl.training.callbacks.predictions import of_all_ranks
from clipseg_pl.training.module import CLIPSegModule

_BEST, _MEDIAN, _WORST = 3, 2, 3


class Score(NamedTuple):
    """IoU of a present prompt."""

    iou: float
    sample: int
    """index in the dataset"""
    prompt: int
    """position among the prompts of the sample"""


class Examples(Callback):
    """Saves pictures of the 3 best, 2 median and 3 worst prompts of an evaluation by their IoU.

    The IoU is that of the protocol's first prompt type at the threshold in use, over the prompts
    that are present in their photo. Each picture shows the photo, the target and the predicted
    mask. The chosen samples are segmented a second time, because their masks are not kept.

    Args:
        run: folder of the run.
        name: stem of the results file; the pictures are saved in `<run>/examples/<name>/`.
    """

    def __init__(self, run: Path, name: str) -> None:
        """Store the folder."""
        self.run, self.folder = run, run / "examples" / name
        self.entries: list[dict[str, Any]] = []
        """photo, phrase, iou, rank ("best", "median" or "worst") and file (relative to the run) of
        each picture, on the first process; filled at the end of the evaluation"""
        self._scores: list[Score] = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Record the IoU of every present prompt."""
        if not outputs:  # this rank has an empty batch
            return
        assert isinstance(pl_module, CLIPSegModule)
        logits, selected = outputs[pl_module.protocol.prompt_types[0]]
        present = ~batch["negative"][selected]
        prompts = selected.nonzero()[:, 0][present]
        probability = logits[present].float().sigmoid()
        pixels = histograms(probability, batch["query_mask"][prompts], batch["valid_mask"][prompts])
        index = position(threshold_in_use(None, pl_module.threshold)[0])
        iou = iou_foreground(counts_at_thresholds(pixels))[:, index].tolist()
        first = _loader(trainer).batch_sampler.batches[batch_idx][0]
        owners = batch["query_index"]
        for score, prompt in zip(iou, prompts.tolist(), strict=True):
            image = int(owners[prompt])
            place = prompt - int((owners < image).sum())
            self._scores.append(Score(score, first + image, place))

    on_test_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the prompts and save their pictures, on the first process."""
        scores, self._scores, self.entries = of_all_ranks(self._scores), [], []
        if not (trainer.is_global_zero and scores):
            return
        assert isinstance(pl_module, CLIPSegModule)
        chosen = choose(scores)
        dataset = _loader(trainer).dataset
        photo_name = getattr(dataset, "photo_name", None)
        batch = collate([dataset[(0, score.sample)] for _, score in chosen])
        batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        with trainer.precision_plugin.forward_context():
            predictions = pl_module.segment(batch)
        logits, selected = predictions[pl_module.protocol.prompt_types[0]]
        self.folder.mkdir(parents=True, exist_ok=True)
        seen: dict[str, int] = {}
        for image, (rank, score) in enumerate(chosen):
            prompt = int((batch["query_index"] < image).sum()) + score.prompt
            row = int(selected[:prompt].sum())
            mask = _masks(logits[row : row + 1], pl_module)[0, 0]
            seen[rank] = seen.get(rank, 0) + 1
            file = self.folder / f"{rank}_{seen[rank]}.png"
            picture = draw_example(batch, prompt, mask.cpu().numpy())
            write_whole(file, partial(picture.save, format="PNG"))
            self.entries.append(
                {
                    "photo": photo_name(score.sample) if photo_name else batch["prompt_id"][prompt],
                    "phrase": batch["phrase"][prompt],
                    "iou": score.iou,
                    "rank": rank,
                    "file": file.relative_to(self.run).as_posix(),
                }
            )

    on_test_end = on_validation_end


def choose(scores: Sequence[Score]) -> list[tuple[str, Score]]:
    """Choose up to 8 different prompts, from the best to the worst.

    Returns:
        "best", "median" or "worst" and the score of each prompt. If there are fewer than 8 prompts,
        the median ones are left out first, then the worst.
    """
    ranked = sorted(scores, key=lambda score: (-score.iou, score.sample, score.prompt))
    best, rest = ranked[:_BEST], ranked[_BEST:]
    middle, worst = rest[: max(len(rest) - _WORST, 0)], rest[-_WORST:]
    start = max(len(middle) - 1, 0) // 2
    median = middle[start : start + _MEDIAN]
    ranks = {"best": best, "median": median, "worst": worst}
    return [(rank, score) for rank, group in ranks.items() for score in group]


def _masks(logits: Tensor, module: CLIPSegModule) -> Tensor:
    """Return (K, 1, H, W) bool masks at the threshold in use, as the metrics count them."""
    threshold, _ = threshold_in_use(None, module.threshold)
    return logits.float().sigmoid() > THRESHOLDS[position(threshold)].to(logits.device)


def _loader(trainer: Trainer) -> Any:  # noqa: ANN401 - lightning's type covers nested loaders
    return trainer.test_dataloaders if trainer.testing else trainer.val_dataloaders
