"""Masks on disk: as PhraseCut's official evaluator reads them, and as `segment` writes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch.distributed
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from clipseg_pl.images import load_photo
from clipseg_pl.inference.mask_files import Form, MaskFiles, save_mask
from clipseg_pl.inference.segmentation import Segmentation
from clipseg_pl.inference.tiles import merge, resize
from clipseg_pl.metrics.functional import cut_in_use, presence, threshold_in_use
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.sample import Batch
from clipseg_pl.training.module import CLIPSegModule


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
        threshold, _ = threshold_in_use(None, pl_module.threshold)
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


class PhotoMasks(Callback):
    """Writes what photos show of prompts that are the same for all.

    Args:
        folder: where to.
        photos: all of them; a batch's prompts are named `<number of the photo>/<of the prompt>`.
        prompts: P names.
        form: see `MaskFiles`.
        overlay: see `MaskFiles`.
        threshold: by default the one that the checkpoint kept, else the paper's.
        absent_cut: see `Segmenter`; "kept" for the one in the checkpoint.

    Raises:
        OSError: see `MaskFiles.check`.
        ValueError: if the folder holds something already; see `MaskFiles` and its `check`.
    """

    def __init__(
        self,
        folder: Path,
        photos: Sequence[PhotoFile],
        prompts: Sequence[str],
        form: Form,
        overlay: bool,
        threshold: float | None = None,
        absent_cut: float | Literal["kept"] = 0.0,
    ) -> None:
        """Refuse what could not be written before anything is read."""
        refuse_used(folder)
        self.photos, self.threshold, self.absent_cut = photos, threshold, absent_cut
        self.files = MaskFiles(folder, prompts, form, overlay)
        self.files.check(photos, overwrite=True)
        self.unreadable: list[str] = []
        """the photos that were skipped, and why: known to the first process, when all is done"""
        self._written: list[int] = []

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
        assert isinstance(pl_module, CLIPSegModule)
        threshold, _ = threshold_in_use(self.threshold, pl_module.threshold)
        absent_cut, _ = cut_in_use(self.absent_cut, pl_module.absent_cut)
        for image, size in enumerate(batch["query_size"].tolist()):
            asked = batch["query_index"] == image
            number = int(batch["prompt_id"][int(asked.nonzero()[0])].split("/")[0])
            probability = outputs[0][asked]
            result = Segmentation(
                self.files.prompts,
                merge(probability, (), size).numpy(),
                presence(probability).cpu().numpy(),
                threshold,
                absent_cut,
            )
            photo = self.photos[number]
            pixels = load_photo(photo.path) if self.files.overlay else None
            self.files.write(photo, number, pixels, result)
            self._written.append(number)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the photos share, and find those that could not be read."""
        written = set(_of_all_ranks(self._written))
        self.files.entries = _of_all_ranks(self.files.entries)
        if not trainer.is_global_zero:
            return
        self.files.finish()
        for number in sorted({*range(len(self.photos))} - written):
            try:
                load_photo(self.photos[number].path)
            except (OSError, ValueError) as error:
                self.unreadable.append(str(error))
        assert isinstance(pl_module, CLIPSegModule)
        masks = len(written) * len(self.files.prompts)
        pl_module.numbers = {f"predict/{pl_module.protocol.readings[0]}/masks": masks}
        print(f"masks: {self.files.folder}")


def _of_all_ranks(own: list[Any]) -> list[Any]:
    """What all processes have, when all have come here."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    every: list[list[Any]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, own)
    return [one for part in every for one in part]
