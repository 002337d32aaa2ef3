"""Callbacks that write the masks of `predict`, for benchmarks and for your own photos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch.distributed
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from clipseg_pl.images import load_photo
from clipseg_pl.inference.file_names import NAME_PATTERN
from clipseg_pl.inference.mask_files import MaskFiles
from clipseg_pl.inference.mask_formats import Form, save_mask
from clipseg_pl.inference.segmentation import Segmentation, thresholds_of
from clipseg_pl.inference.tiles import merge, resize
from clipseg_pl.metrics.functional import cut_in_use, presence, threshold_in_use
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.sample import Batch
from clipseg_pl.training.module import CLIPSegModule


class Predictions(Callback):
    """Writes a mask `<prompt id>.png` (0 or 255) at the size of the photo for every phrase.

    PhraseCut's official evaluator reads these files; the prompt id is PhraseCut's task id. The
    threshold is the one stored in the checkpoint for the phrase, else the one stored for all
    phrases, or the paper's if there is none.

    Args:
        folder: folder for the masks.

    Raises:
        ValueError: if the folder is not empty, because masks of two runs would be mixed.
    """

    def __init__(self, folder: Path) -> None:
        """Store the folder."""
        reject_used_folder(folder)
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
        if outputs is None:  # this rank has an empty batch
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        assert isinstance(pl_module, CLIPSegModule)
        overall, _ = threshold_in_use(None, pl_module.threshold)
        thresholds = thresholds_of(batch["phrase"], overall, pl_module.class_thresholds)
        thresholds = np.broadcast_to(thresholds, len(batch["phrase"]))
        probabilities, selected = outputs
        for probability, prompt in zip(
            probabilities, selected.nonzero()[:, 0].tolist(), strict=True
        ):
            size = batch["query_size"][batch["query_index"][prompt]].tolist()
            threshold = float(thresholds[prompt])
            mask = (resize(probability[None], size)[0, 0] > threshold).cpu().numpy()
            save_mask(mask, self.folder / f"{batch['prompt_id'][prompt]}.png")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the masks. A phrase without a support image has no mask by visual prompt."""
        trainer.strategy.barrier("all masks are written")
        masks = len(list(self.folder.glob("*.png")))
        if trainer.is_global_zero:
            assert isinstance(pl_module, CLIPSegModule)
            pl_module.numbers = {f"predict/{pl_module.protocol.prompt_types[0]}/masks": masks}
            print(f"masks: {self.folder}")


@rank_zero_only
def reject_used_folder(folder: Path) -> None:
    """Raise if a folder is not empty, because masks of two runs would be mixed.

    Raises:
        ValueError: if the folder exists and is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"{folder} already contains masks: remove them or set --trainer.default_root_dir to "
            "another folder"
        )


class PhotoMasks(Callback):
    """Writes the masks of photos that are all segmented with the same prompts.

    Args:
        folder: folder for the masks.
        photos: all photos. Prompt ids of a batch are `<photo index>/<prompt index>`.
        prompts: names of the P prompts.
        form: see `MaskFiles`.
        overlay: see `MaskFiles`.
        threshold: defaults to the thresholds stored in the checkpoint, or the paper's if there is
            none.
        absent_cut: see `Segmenter`; "stored" uses the cut of the checkpoint.
        name_pattern: see `MaskFiles`.

    Raises:
        OSError: see `MaskFiles.check`.
        ValueError: if the folder is not empty; see also `MaskFiles` and `MaskFiles.check`.
    """

    def __init__(
        self,
        folder: Path,
        photos: Sequence[PhotoFile],
        prompts: Sequence[str],
        form: Form,
        overlay: bool,
        threshold: float | None = None,
        absent_cut: float | Literal["stored"] = 0.0,
        name_pattern: str = NAME_PATTERN,
    ) -> None:
        """Check before any photo is read that all files can be written."""
        reject_used_folder(folder)
        self.photos, self.threshold, self.absent_cut = photos, threshold, absent_cut
        self.files = MaskFiles(folder, prompts, form, overlay, name_pattern=name_pattern)
        self.files.check(photos, overwrite=True)
        self.unreadable: list[str] = []
        """one message per skipped photo; filled at the end of the run, on the first process only"""
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
        if outputs is None:  # this rank has an empty batch
            return
        assert isinstance(pl_module, CLIPSegModule)
        threshold, _ = threshold_in_use(self.threshold, pl_module.threshold)
        class_thresholds = pl_module.class_thresholds if self.threshold is None else {}
        absent_cut, _ = cut_in_use(self.absent_cut, pl_module.absent_cut)
        # every photo has the same prompts; the phrase of an image prompt is not its text
        pairs = zip(batch["phrase"], batch["text_prompt"], strict=True)
        texts = [phrase if phrase == text else "" for phrase, text in pairs]
        thresholds = thresholds_of(texts[: len(self.files.prompts)], threshold, class_thresholds)
        for image, size in enumerate(batch["query_size"].tolist()):
            own = batch["query_index"] == image
            number = int(batch["prompt_id"][int(own.nonzero()[0])].split("/")[0])
            probability = outputs[0][own]
            result = Segmentation(
                self.files.prompts,
                merge(probability, (), size).numpy(),
                presence(probability).cpu().numpy(),
                thresholds,
                absent_cut,
            )
            photo = self.photos[number]
            pixels = load_photo(photo.source) if self.files.needs_pixels else None
            self.files.write(photo, number, pixels, result)
            self._written.append(number)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file of all photos, if there is one, and collect the unreadable photos."""
        written = set(of_all_ranks(self._written))
        self.files.entries = of_all_ranks(self.files.entries)
        if not trainer.is_global_zero:
            return
        self.files.finish()
        for number in sorted({*range(len(self.photos))} - written):
            try:
                load_photo(self.photos[number].source)
            except (OSError, ValueError) as error:
                self.unreadable.append(str(error))
        assert isinstance(pl_module, CLIPSegModule)
        masks = len(written) * len(self.files.prompts)
        pl_module.numbers = {f"predict/{pl_module.protocol.prompt_types[0]}/masks": masks}
        print(f"masks: {self.files.folder}")


def of_all_ranks(own: list[Any]) -> list[Any]:
    """Concatenate the lists of all processes. Every process has to call this function."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return own
    every: list[list[Any]] = [[]] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(every, own)
    return [one for part in every for one in part]
