"""Episodes to samples: a query photo, a class, and supports that show the class."""

from collections.abc import Sequence
from typing import Any, Literal

import albumentations as A
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from clipseg_pl.images import RGB, to_tensor
from clipseg_pl.prompts.visual import VisualPrompt
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.episodes import Episode
from datamodules.datasets.labelled import IGNORED, LabelledPhotos, Labels

Framing = Literal["squash", "letterbox"]
_MULTIPLE = 8


class OneShotDataset(Dataset[Sample]):
    """Samples of one prompt each; indexed by (epoch, episode), whatever the epoch.

    Args:
        photos: where the names of the episodes lead.
        episodes: what is asked.
        prompts: text prompt of each class, by class id.
        image_size: side of the query and support images in pixels.
        framing: "squash" brings photo and labels to the image's square, distorting them, as HSNet
            does; "letterbox" shrinks the photo to fit into it, on black, and scores on the labels
            at their own size in a square of the longer side, as PFENet does.
        visual_prompt: how support images are made.
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
        """Keep the parts; nothing is read."""
        self.photos, self.episodes, self.prompts = photos, episodes, prompts
        self.image_size, self.framing, self.visual_prompt = image_size, framing, visual_prompt
        self.resize = A.Resize(
            image_size,
            image_size,
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
        )

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self.episodes)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Make the sample of an episode."""
        query, class_id, supports = self.episodes[key[1]]
        photo = self.photos.image(query)
        whole = self.photos.labels(query)
        image, labels = self._framed(photo, whole)
        if self.framing == "letterbox":
            labels = on_square(whole, max(photo.shape[:2]), IGNORED)
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
        resized = self.resize(image=image, mask=labels)
        return resized["image"], resized["mask"]


def letterbox(image: RGB, labels: Labels, size: int) -> tuple[RGB, Labels]:
    """Shrink to fit into a square, and lay on black; labels are ignored around the photo.

    Sides of a photo that is shrunk are rounded down to multiples of 8. A photo that fits already
    keeps its size.

    Args:
        image: (H, W, 3) uint8.
        labels: (H, W) uint8.
        size: side of the square in pixels, a multiple of 8.

    Returns:
        (size, size, 3) and (size, size), uint8.

    Reference: PFENet's `test_Resize`, as CLIPSeg runs it (PFENet's code: `util/transform.py`).
    """
    if max(labels.shape) > size:
        sides = _shrunk_width_and_height(labels.shape, size)
        image = np.asarray(cv2.resize(image, sides, interpolation=cv2.INTER_LINEAR), np.uint8)
        labels = np.asarray(cv2.resize(labels, sides, interpolation=cv2.INTER_NEAREST), np.uint8)
    return on_square(image, size, 0), on_square(labels, size, IGNORED)


def _shrunk_width_and_height(shape: Sequence[int], size: int) -> tuple[int, int]:
    """Width and height of a photo of `shape` (H, W) that is shrunk to fit into a square.

    The ratio is a float, as in PFENet: for some sizes the product lies just below a whole number.
    """
    height, width = shape
    ratio = size / max(shape)
    wide, high = (int(width * ratio), size) if height >= width else (size, int(height * ratio))
    wide, high = (max(_MULTIPLE, side // _MULTIPLE * _MULTIPLE) for side in (wide, high))
    return wide, high


def on_square(array: npt.NDArray[Any], size: int, around: int) -> npt.NDArray[np.uint8]:
    """Lay (h, w, ...) uint8 into the upper left corner of a (size, size, ...) one."""
    square = np.full((size, size, *array.shape[2:]), around, np.uint8)
    square[: array.shape[0], : array.shape[1]] = array
    return square
