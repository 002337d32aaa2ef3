"""What the decoder and the module need from a frozen encoder, whichever it is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import Self

from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD, RGB

PAPER_SIZE = 352
"""side in pixels of the squares that the paper's models see"""


@dataclass(frozen=True)
class BackboneShape:
    """The sizes of a backbone that a decoder is built for.

    Args:
        width: channels of the activations (768 for ViT-B).
        embed_dim: width C of the conditional vector (512 for ViT-B/16).
        patch_size: side of a patch in pixels.
        depth: number of transformer blocks; layers are counted from 0 to depth - 1.
    """

    width: int
    embed_dim: int
    patch_size: int
    depth: int


class Backbone(nn.Module, ABC):
    """A frozen encoder of images and text: no gradients, always in evaluation mode.

    Images come as uint8 RGB and are normalised here, on the device, by default with ImageNet's
    constants as the authors' code does (not with CLIP's own).

    A checkpoint names a backbone and does not hold it, but for the state whose names begin with
    one of `kept_state`: what was drawn at random, so that no name leads back to it.
    """

    shape: BackboneShape
    kept_state: tuple[str, ...] = ()
    mean: Tensor
    std: Tensor

    def __init__(self, mean: RGB = IMAGENET_MEAN, std: RGB = IMAGENET_STD) -> None:
        """Register what images are normalised with, on the scale 0 to 1."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, raw (not L2-normalised): (len(texts), C)."""

    @abstractmethod
    def embed_image(self, images: Tensor) -> Tensor:
        """Embed (N, 3, H, W) uint8 images whole, raw (not L2-normalised): (N, C)."""

    @abstractmethod
    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after the given blocks, in the order asked for.

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W are multiples of the patch.
            layers: block indices, from 0; nothing past the deepest is computed.

        Returns:
            One (B, 1 + N, width) tensor a layer, CLS token first.
        """

    def freeze(self) -> Self:
        """Take the parameters out of training, for good."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the module around it does."""
        return super().train(False)

    def normalise(self, images: Tensor) -> Tensor:
        """Scale uint8 images to the statistics that the encoder is given.

        Raises:
            TypeError: for anything but uint8: a float image has an unknown range.
            ValueError: for a shape other than (N, 3, H, W), or sides no multiple of the patch.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images are uint8 RGB (0-255), not {images.dtype}")
        patch = self.shape.patch_size
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images have the shape (N, 3, H, W), not {tuple(images.shape)}")
        if images.shape[2] % patch or images.shape[3] % patch:
            height, width = images.shape[2:]
            raise ValueError(f"image sides must be multiples of {patch}, not {height} x {width}")
        return (images / 255 - self.mean) / self.std
