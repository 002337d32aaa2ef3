"""Base class of the frozen image and text encoders."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import Self

from clipseg_pl.weights.clip import IMAGENET_MEAN, IMAGENET_STD, RGB

PAPER_SIZE = 352
"""side in pixels of the square input images of the paper's models"""


@dataclass(frozen=True)
class BackboneShape:
    """Sizes of a backbone, from which a decoder is built.

    Args:
        width: channels of the activations (768 for ViT-B).
        embed_dim: width C of the conditional vector (512 for ViT-B/16).
        patch_size: side of a patch in pixels.
        depth: number of transformer blocks; layer indices run from 0 to depth - 1.
    """

    width: int
    embed_dim: int
    patch_size: int
    depth: int


class Backbone(nn.Module, ABC):
    """A frozen encoder of images and text, without gradients and always in evaluation mode.

    The backbone normalises uint8 RGB images on the device. By default it uses ImageNet's mean and
    standard deviation instead of CLIP's, as the authors' code does. See `docs/deviations.md`
    (normalisation).

    Checkpoints store the name of the backbone and not its weights. The exceptions are weights whose
    names start with a prefix in `stored_state`. They are randomly initialised or trained, so they
    cannot be reloaded from the name of the backbone.
    """

    shape: BackboneShape
    stored_state: tuple[str, ...] = ()
    mean: Tensor
    std: Tensor

    def __init__(self, mean: RGB = IMAGENET_MEAN, std: RGB = IMAGENET_STD) -> None:
        """Register the mean and standard deviation of RGB values in [0, 1]."""
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    @abstractmethod
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Return raw (not L2-normalised) embeddings of texts: (len(texts), C)."""

    @abstractmethod
    def embed_image(self, images: Tensor) -> Tensor:
        """Return the raw (not L2-normalised) embeddings of (N, 3, H, W) uint8 images: (N, C)."""

    @abstractmethod
    def activations(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return the tokens after each of the given blocks, in the order of `layers`.

        Args:
            images: (B, 3, H, W) uint8 RGB; H and W are multiples of the patch size.
            layers: block indices, from 0; blocks after the deepest one are not computed.

        Returns:
            One (B, 1 + N, width) tensor per layer, CLS token first.
        """

    def unfreeze(self, blocks: Sequence[int]) -> None:
        """Make blocks trainable for `activations`; see `CLIPBackbone.unfreeze`.

        Raises:
            ValueError: if the backbone does not support it.
        """
        raise ValueError(f"{type(self).__name__} cannot train blocks: set unfreeze_blocks to 0")

    def freeze(self) -> Self:
        """Disable gradients of all parameters and switch to evaluation mode."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, even if the parent module is set to training mode."""
        return super().train(False)

    def normalise(self, images: Tensor) -> Tensor:
        """Scale uint8 images to [0, 1], subtract the mean and divide by the standard deviation.

        Raises:
            TypeError: if the images are not uint8. The range of float images would be unknown.
            ValueError: if the shape is not (N, 3, H, W) or a side is not a multiple of the patch
                size.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"images must be uint8 RGB (0-255), not {images.dtype}")
        patch = self.shape.patch_size
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (N, 3, H, W), not {tuple(images.shape)}")
        if images.shape[2] % patch or images.shape[3] % patch:
            height, width = images.shape[2:]
            raise ValueError(f"image sides must be multiples of {patch}, not {height} x {width}")
        return (images / 255 - self.mean) / self.std
