"""Pictures of predictions: panels (query | prompt | target | prediction) and single examples."""

import textwrap
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from clipseg_pl.atomic import write_whole
from clipseg_pl.images import RGB
from clipseg_pl.sample import Batch
from clipseg_pl.training.module import CLIPSegModule

_ROWS = 8
_GAP = 4
_CAPTION = 16
_SMALLEST_EXAMPLE = 256
_TINT = np.array((255, 32, 32), np.float32)


class Panels(Callback):
    """Draws up to 8 prompts of the first batch of every evaluation, except those of label maps.

    Panels are also sent to loggers that accept images.

    Args:
        folder: folder for `<stage>-<prompt_type>-<step>.png`.
    """

    def __init__(self, folder: Path) -> None:
        """Store the folder."""
        self.folder = folder

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - lightning's signature
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first batch."""
        if batch_idx or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if "label_map" in batch:  # the outputs are classes, not masks of prompts
            return
        assert isinstance(pl_module, CLIPSegModule)
        for prompt_type, (logits, selected) in outputs.items():
            probability = logits[:_ROWS].float().sigmoid().cpu().numpy()
            if not len(probability):
                continue
            prompts = selected.nonzero()[:_ROWS, 0].tolist()
            panel = draw_panel(batch, prompts, probability, visual=prompt_type == "visual")
            stage = "test" if trainer.testing else "val"
            step = pl_module.steps_trained
            file = self.folder / f"{stage}-{prompt_type}-{step:06}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, partial(panel.save, format="PNG"))
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    pixels = np.asarray(panel)
                    logger.experiment.add_image(
                        f"panels/{prompt_type}", pixels, step, dataformats="HWC"
                    )
                elif hasattr(logger, "log_image"):
                    logger.log_image(f"panels/{prompt_type}", [panel], step)

    on_test_batch_end = on_validation_batch_end


def draw_panel(
    batch: Batch,
    prompts: Sequence[int],
    probability: npt.NDArray[np.float32] | None = None,
    visual: bool = False,
) -> Image.Image:
    """Draw K prompts of a batch, one per row.

    Args:
        batch: batch with P prompts.
        prompts: indices of the K prompts, each in [0, P).
        probability: (K, 1, H, W) predictions in [0, 1]; without them, the last column is left out.
        visual: show the support image instead of the text prompt in the second column.
    """
    height, width = batch["query_image"].shape[2:]
    step = height + _GAP
    titles = ("query", "prompt", "target", "prediction")[: 3 if probability is None else 4]
    size = len(titles) * (width + _GAP), _CAPTION + len(prompts) * step
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((column * (width + _GAP) + 2, 2), title, fill="black")
    owners = batch["prompt_index"].tolist()
    for row, prompt in enumerate(prompts):
        query = _pixels(batch["query_image"][batch["query_index"][prompt]])
        if visual and prompt in owners:
            shown = _pixels(batch["visual_prompt"][owners.index(prompt)])
        else:
            absent = " (absent)" if batch["negative"][prompt] else ""
            shown = _text_cell(batch["text_prompt"][prompt] + absent, height, width)
        target = _target(batch, prompt)
        cells = [query, shown, tint(query, target)]
        if probability is not None:
            cells.append(tint(query, probability[row, 0]))
        for column, cell in enumerate(cells):
            place = (column * (width + _GAP), _CAPTION + row * step)
            canvas.paste(Image.fromarray(cell), place)
    return canvas


def draw_example(batch: Batch, prompt: int, mask: npt.NDArray[np.bool_]) -> Image.Image:
    """Draw one prompt of a batch: query image, target and predicted mask, side by side.

    Args:
        batch: batch with P prompts.
        prompt: index of the prompt, in [0, P).
        mask: (H, W) predicted mask.

    Returns:
        The picture. Each part has the photo's aspect ratio and is at least 256 pixels high.
    """
    image = batch["query_index"][prompt]
    query, (height, width) = (
        _pixels(batch["query_image"][image]),
        batch["query_size"][image].tolist(),
    )
    side = max(len(query), _SMALLEST_EXAMPLE)
    size = max(1, round(side * width / height)), side
    cells = (query, tint(query, _target(batch, prompt)), tint(query, mask.astype(np.float32)))
    canvas = Image.new("RGB", (len(cells) * (size[0] + _GAP) - _GAP, side), "white")
    for column, cell in enumerate(cells):
        canvas.paste(Image.fromarray(cell).resize(size), (column * (size[0] + _GAP), 0))
    return canvas


def _target(batch: Batch, prompt: int) -> npt.NDArray[np.float32]:
    """Return the target of a prompt at the size of the query image, with values 0 and 1."""
    height, width = batch["target_size"][prompt].tolist()
    mask = batch["query_mask"][prompt : prompt + 1, :, :height, :width].float()
    fitted = F.interpolate(mask, batch["query_image"].shape[2:], mode="nearest")
    return fitted[0, 0].cpu().numpy()


def _text_cell(text: str, height: int, width: int) -> RGB:
    """Draw black text on a white cell, (height, width, 3) uint8."""
    cell = Image.new("RGB", (width, height), "white")
    size = max(10, height // 10)
    lines = textwrap.wrap(text, max(8, int(width / size * 1.8)))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(cell).multiline_text((4, 4), "\n".join(lines), fill="black", font=font)
    return np.asarray(cell)


def tint(image: RGB, strength: npt.NDArray[np.float32]) -> RGB:
    """Tint an image red.

    Args:
        image: (H, W, 3) uint8.
        strength: (H, W), from 0 (dimmed image) to 1 (mostly red).
    """
    weight = 0.6 * strength[..., None]
    dimmed = image * (0.5 + 0.5 * strength[..., None])
    return np.asarray((1 - weight) * dimmed + weight * _TINT).round().astype(np.uint8)


def _pixels(image: Tensor) -> RGB:
    return image.permute(1, 2, 0).cpu().numpy()  # 3 H W -> H W 3
