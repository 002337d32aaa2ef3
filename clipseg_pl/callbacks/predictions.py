"""Masks on disk, in the form that PhraseCut's official evaluator reads."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from clipseg_pl.mask_files import save_mask
from clipseg_pl.metrics.functional import kept_or_paper
from clipseg_pl.module import CLIPSegModule
from clipseg_pl.sample import Batch
from clipseg_pl.tiles import resize


class Predictions(Callback):
    """Writes `<prompt id>.png` (0 or 255) at the size of the photo, for every phrase predicted.

    The prompt id is PhraseCut's task id. The threshold is the one that the checkpoint kept, else
    the paper's.

    Args:
        folder: where to.

    Raises:
        ValueError: if masks are there already, which would get mixed with the new ones.
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder."""
        refuse_used(folder)
        self.folder = folder

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one batch."""
        if outputs is None:  # this rank has nothing to predict
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        assert isinstance(pl_module, CLIPSegModule)
        threshold = kept_or_paper(pl_module.threshold)
        probabilities, selected = outputs
        for probability, prompt in zip(
            probabilities, selected.nonzero()[:, 0].tolist(), strict=True
        ):
            size = batch["query_size"][batch["query_index"][prompt]].tolist()
            mask = (resize(probability[None], size)[0, 0] > threshold).cpu().numpy()
            save_mask(mask, self.folder / f"{batch['prompt_id'][prompt]}.png")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count them, for the results; phrases that the reading is not for have none."""
        trainer.strategy.barrier("all masks are written")
        masks = len(list(self.folder.glob("*.png")))
        if trainer.is_global_zero:
            assert isinstance(pl_module, CLIPSegModule)
            pl_module.numbers = {f"predict/{pl_module.protocol.readings[0]}/masks": masks}
            print(f"masks: {self.folder}")


@rank_zero_only
def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds something: masks of two runs would get mixed.

    Raises:
        ValueError: naming it.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} holds masks already: remove them or set --trainer.default_root_dir"
        )
