"""Masks of photos of one's own, as `segment` writes them, from several processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.distributed
from lightning import Callback, LightningModule, Trainer

from clipseg_pl.callbacks.predictions import refuse_used
from clipseg_pl.images import load_photo
from clipseg_pl.mask_files import Form, MaskFiles
from clipseg_pl.metrics.functional import kept_or_paper
from clipseg_pl.metrics.presence import presence
from clipseg_pl.module import CLIPSegModule
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.sample import Batch
from clipseg_pl.segmentation import Segmentation
from clipseg_pl.tiles import merge


class PhotoMasks(Callback):
    """Writes what photos show of prompts that are the same for all.

    Args:
        folder: where to.
        photos: all of them; a batch's prompts are named `<number of the photo>/<of the prompt>`.
        prompts: P names.
        form: see `MaskFiles`.
        overlay: see `MaskFiles`.
        threshold: by default the one that the checkpoint kept, else the paper's.
        absent_cut: by default the one that the checkpoint kept, else 0.

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
        absent_cut: float | None = None,
    ) -> None:
        """Refuse what could not be written before anything is read."""
        refuse_used(folder)
        self.photos, self.threshold, self.absent_cut = photos, threshold, absent_cut
        self.files = MaskFiles(folder, prompts, form, overlay)
        self.files.check(photos, overwrite=True)
        self.unreadable: list[str] = []
        """the photos that were skipped, and why: known to the first process, when all is done"""
        self._written: set[int] = set()

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
        threshold = _first(self.threshold, kept_or_paper(pl_module.threshold))
        absent_cut = _first(self.absent_cut, pl_module.absent_cut, 0.0)
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
            self._written.add(number)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the photos share, and find those that could not be read."""
        written = _union(self._written)
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


def _first(*numbers: float | None) -> float:
    """The first that is given."""
    return next(number for number in numbers if number is not None)


def _union(numbers: set[int]) -> set[int]:
    """The numbers of all processes, when all have come here."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return numbers
    every: list[set[int]] = [set()] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, numbers)
    return set().union(*every)
