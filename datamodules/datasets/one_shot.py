"""Samples of one-shot episodes: a query photo, a class, and support images with the class."""

from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clipseg_pl.images import RGB, to_tensor
from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.coco_photos import coco_ids
from datamodules.datasets.episodes import Episode
from datamodules.datasets.labelled import IGNORED, LabelledPhotos, Labels
from datamodules.datasets.phrase_table import Rows
from datamodules.datasets.transforms import PairedResize

Framing = Literal["squash", "letterbox"]
_MULTIPLE = 8


class OneShotDataset(Dataset[Sample]):
    """Samples with one prompt each, indexed by (epoch, episode); the epoch is ignored.

    Args:
        photos: photos and label maps that the episodes refer to.
        episodes: episodes, one sample each.
        prompts: text prompt of each class, by class id.
        image_size: side of the query and support images in pixels.
        framing: "squash" resizes photo and labels to the square, ignoring the aspect ratio, like
            HSNet. "letterbox" shrinks the photo to fit into the square and pads with black, like
            PFENet. The target is not resized, only padded to a square.
        visual_prompt: how support images are cropped, blurred and darkened.
    """

    def __init__(
        self,
        photos: LabelledPhotos,
        episodes: Sequence[Episode],
        prompts: Sequence[str],
        image_size: int,
        framing: Framing,
        visual_prompt: VisualPrompt,
    ) -> None:
        """Store the settings; no file is read."""
        self.photos, self.episodes, self.prompts = photos, episodes, prompts
        self.image_size, self.framing, self.visual_prompt = image_size, framing, visual_prompt
        self.resize = PairedResize(image_size)

    @property
    def coco_ids(self) -> Rows:
        """(episodes,) int64, COCO's id of each query photo, -1 for other photos."""
        return coco_ids(f"{episode.query}.jpg" for episode in self.episodes)

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.episodes)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Load the sample of an episode."""
        query, class_id, supports = self.episodes[key[1]]
        photo = self.photos.image(query)
        whole = self.photos.labels(query)
        image, labels = self._framed(photo, whole)
        if self.framing == "letterbox":
            labels = pad_to_square(whole, max(photo.shape[:2]), IGNORED)
        prompt = Prompt(
            prompt_id=f"{query.replace('/', '_')}__{class_id + 1:02}__{key[1]:04}",
            query_mask=torch.from_numpy(labels == class_id + 1)[None],
            valid_mask=torch.from_numpy(labels != IGNORED)[None],
            phrase=self.prompts[class_id],
            text_prompt=self.prompts[class_id],
            supports=[self._support(name, class_id) for name in supports],
            mix_weight=0.5,
            class_id=class_id,
            negative=False,
        )
        return Sample(
            query_image=to_tensor(image),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=[prompt],
        )

    def _support(self, name: str, class_id: int) -> Tensor:
        image, labels = self._framed(self.photos.image(name), self.photos.labels(name))
        return to_tensor(self.visual_prompt(image, labels == class_id + 1))

    def _framed(self, image: RGB, labels: Labels) -> tuple[RGB, Labels]:
        if self.framing == "letterbox":
            return letterbox(image, labels, self.image_size)
        return self.resize.image(image), self.resize.labels(labels)


def letterbox(image: RGB, labels: Labels, size: int) -> tuple[RGB, Labels]:
    """Shrink photo and labels to fit into a square, and pad them with black and the ignore label.

    The sides of a shrunk photo are rounded down to multiples of 8. A photo that already fits keeps
    its size.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8.
        size: side of the square in pixels, a multiple of 8.

    Returns:
        Image (size, size, 3) and labels (size, size), both uint8.

    Reference: PFENet's code, `test_Resize` in util/transform.py, as run by CLIPSeg.
    """
    if max(labels.shape) > size:
        sides = _shrunk_width_and_height(labels.shape, size)
        image = np.asarray(cv2.resize(image, sides, interpolation=cv2.INTER_LINEAR), np.uint8)
        labels = np.asarray(cv2.resize(labels, sides, interpolation=cv2.INTER_NEAREST), np.uint8)
    return pad_to_square(image, size, 0), pad_to_square(labels, size, IGNORED)


def _shrunk_width_and_height(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Return width and height of a photo of `shape` (H, W) shrunk to fit into a square.

    The ratio is a float, as in PFENet. For some sizes, a product is just below an integer, and the
    result is one pixel smaller than with exact arithmetic.
    """
    height, width = shape
    ratio = size / max(shape)
    wide, high = (int(width * ratio), size) if height >= width else (size, int(height * ratio))
    wide, high = (max(_MULTIPLE, side // _MULTIPLE * _MULTIPLE) for side in (wide, high))
    return wide, high


def pad_to_square(array: npt.NDArray[Any], size: int, value: int) -> npt.NDArray[np.uint8]:
    """Pad a (h, w, ...) uint8 array at the bottom and right to (size, size, ...) with `value`."""
    square = np.full((size, size, *array.shape[2:]), value, np.uint8)
    square[: array.shape[0], : array.shape[1]] = array
    return square
