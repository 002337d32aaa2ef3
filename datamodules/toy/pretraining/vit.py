"""Pre-training of the toy ViT, as a classifier of all kinds on newly drawn images.

python -m datamodules.toy.pretraining.vit --out runs/toy_vit --steps 2500 --every 250

The toy ViT is the counterpart of a ViT trained on ImageNet: it sees images of single things and no
text.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from clipseg_pl.weights.places import TOY_CLIP
from datamodules.toy.pretraining.loop import MOST_STEPS, Pretraining, ViTSettings, run
from datamodules.toy.pretraining.pictures import held_out, normalised, single_things
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.scales import (
    STREAM_STD,
    VIT_STREAM,
    factor_to,
    rescaled,
    tapped_layers,
)
from datamodules.toy.scenes.scene import Thing


class LabelledThings(Dataset[tuple[Tensor, Tensor]]):
    """Batches of images that show one thing each. Batch n depends only on (seed, n).

    Args:
        seed: First part of every generator's seed.
        batch_size: Images per batch.
        image_size: Side of the images in pixels.
    """

    def __init__(self, seed: int, batch_size: int, image_size: int) -> None:
        self.seed, self.batch_size, self.image_size = seed, batch_size, image_size

    def __len__(self) -> int:
        """Number of batches."""
        return MOST_STEPS

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, H, W) uint8 RGB and indices into `KINDS` (B,) int64 of a batch."""
        rng = np.random.default_rng((self.seed, step))
        pictures, things = single_things(rng, self.image_size, self.batch_size)
        return pictures, _rows(things)


class ViTPretraining(Pretraining[VisionTransformer, ViTSettings]):
    """Training of a ViT to classify the thing in an image.

    Args:
        settings: Architecture, data and budget.
        resume: Continue from the checkpoint in `settings.out`.
    """

    def __init__(self, settings: ViTSettings, resume: bool = False) -> None:
        self.config = {**settings.architecture, "num_classes": len(KINDS)}
        self.image_size = settings.architecture["img_size"]
        rng = held_out(settings.seed)
        self.pictures, things = single_things(rng, self.image_size, settings.singles)
        self.kinds = _rows(things)
        super().__init__(settings, resume)

    def build(self) -> VisionTransformer:
        """Return a ViT with its initial weights."""
        return VisionTransformer(**self.config)

    def batches(self) -> LabelledThings:
        """Return a dataset of image batches with kinds, (B,) int64."""
        return LabelledThings(self.settings.seed, self.settings.batch_size, self.image_size)

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        """Return the cross-entropy over the kinds."""
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(normalised(images))
        return F.cross_entropy(logits.float(), targets)

    @torch.no_grad()
    def score(self) -> dict[str, float]:
        """Return the share of held-out images whose kind is predicted correctly."""
        logits = self.average(normalised(self.pictures.to(self.device)))
        accuracy = (logits.argmax(1).cpu() == self.kinds).float().mean()
        return {"kind": round(accuracy.item(), 4)}

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Write architecture, averaged fp16 weights and log to files named `<TOY_CLIP>_vit*`."""
        tapped: Any = self.average.forward_intermediates(
            normalised(self.pictures.to(self.device)),
            tapped_layers(len(self.average.blocks))[-1:],
            output_fmt="NLC",
            intermediates_only=True,
        )
        factor = factor_to(STREAM_STD, tapped[0].std().item())
        scaled = rescaled(self.average.state_dict(), {VIT_STREAM: factor})
        self.write(folder, f"{TOY_CLIP}_vit", self.config, scaled)


def _rows(things: list[Thing]) -> Tensor:
    return torch.tensor([KINDS.index(thing.kind) for thing in things])


if __name__ == "__main__":
    run(ViTPretraining, ViTSettings, __doc__ or "")
