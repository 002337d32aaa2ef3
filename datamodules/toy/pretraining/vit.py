"""Pre-training of the toy ViT, as a classifier of the twenty kinds on endless fresh pictures.

python -m datamodules.toy.pretraining.vit --out runs/toy_vit --minutes 40

What ImageNet's ViT is to the real world: it sees pictures of one thing each, and never a word.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.layers.patch_dropout import PatchDropout
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from datamodules.toy.pretraining.loop import MOST_STEPS, Pretraining, ViTSettings, run
from datamodules.toy.pretraining.pictures import held_out, normalised, single_things
from datamodules.toy.scenes.kinds import KINDS
from datamodules.toy.scenes.scales import VIT_STREAM, rescaled
from datamodules.toy.scenes.scene import Thing

_STREAM_STD = 2.0
_TAPPED = 9
"""the deepest block that the paper's decoder reads"""


class LabelledThings(Dataset[tuple[Tensor, Tensor]]):
    """Whole batches of pictures of one thing each; batch n is a pure function of (seed, n).

    Args:
        seed: First part of every generator's seed.
        batch_size: Pictures per batch.
        image_size: Side of the pictures in pixels.
    """

    def __init__(self, seed: int, batch_size: int, image_size: int) -> None:
        self.seed, self.batch_size, self.image_size = seed, batch_size, image_size

    def __len__(self) -> int:
        """Number of batches."""
        return MOST_STEPS

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Pictures (B, 3, H, W) uint8 RGB and rows in `KINDS` (B,) int64 of batch `step`."""
        rng = np.random.default_rng((self.seed, step))
        pictures, things = single_things(rng, self.image_size, self.batch_size)
        return pictures, _rows(things)


class ViTPretraining(Pretraining[VisionTransformer, ViTSettings]):
    """Pictures against the kind of the thing that they show.

    Args:
        settings: What to train, and for how long.
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
        """A ViT with its initial weights."""
        return VisionTransformer(**self.config)

    def drop_patches(self, share: float) -> None:
        """Have the model leave out that share of the patches while it is trained."""
        self.model.patch_drop = PatchDropout(share)

    def batches(self) -> LabelledThings:
        """Pictures and kinds (B,) int64."""
        return LabelledThings(self.settings.seed, self.settings.batch_size, self.image_size)

    def loss(self, images: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of the kinds."""
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.model(normalised(images))
        return F.cross_entropy(logits.float(), targets)

    @torch.no_grad()
    def score(self) -> dict[str, float]:
        """Share of held-out pictures whose kind is told right."""
        logits = self.average(normalised(self.pictures.to(self.device)))
        right = (logits.argmax(1).cpu() == self.kinds).float().mean()
        return {"kind": round(right.item(), 4)}

    @torch.no_grad()
    def export(self, folder: Path) -> None:
        """Writes the sizes, averaged weights in fp16 and log, all named toy_vit*."""
        tapped: Any = self.average.forward_intermediates(
            normalised(self.pictures.to(self.device)),
            [min(_TAPPED, len(self.average.blocks) - 1)],
            output_fmt="NLC",
            intermediates_only=True,
        )
        factor = 2.0 ** round(math.log2(_STREAM_STD / tapped[0].std().item()))
        scaled = rescaled(self.average.state_dict(), {VIT_STREAM: factor})
        self.write(folder, "toy_vit", self.config, scaled)


def _rows(things: list[Thing]) -> Tensor:
    return torch.tensor([KINDS.index(thing.kind) for thing in things])


if __name__ == "__main__":
    run(ViTPretraining, ViTSettings, __doc__ or "")
