"""Pictures as encoders are shown them: of one thing, normalised, held out of every training."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.toy.scenes import Thing, draw_scene

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HELD_OUT = 2**31  # training seeds with (seed, step), steps stay far below


def normalised(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) uint8 RGB to float32 with ImageNet's mean and deviation."""
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures (H, W, 3) to (B, 3, H, W)."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def held_out(seed: int) -> np.random.Generator:
    """The generator of pictures that a training run of that seed never draws."""
    return np.random.default_rng((seed, _HELD_OUT))


def single_things(
    rng: np.random.Generator, image_size: int, count: int
) -> tuple[Tensor, list[Thing]]:
    """Up to `count` pictures (B, 3, H, W) uint8 RGB of one thing each, and the things."""
    drawn = [draw_scene(rng, image_size, count=1) for _ in range(count)]
    drawn = [scene for scene in drawn if scene.things]  # now and then nothing finds its place
    return stacked([scene.image for scene in drawn]), [scene.things[0] for scene in drawn]
