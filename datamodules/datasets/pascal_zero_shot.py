"""Pascal VOC photos with one prompt for each of 21 classes."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from clipseg_pl.images import to_tensor
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.labelled import IGNORED, LabelledPhotos
from datamodules.datasets.pascal_5i import ZERO_SHOT_CLASSES
from datamodules.datasets.transforms import PairedResize


class ZeroShotDataset(Dataset[Sample]):
    """Samples with 21 prompts each, indexed by (epoch, photo); the epoch is ignored.

    Args:
        photos: VOC2012.
        names: names of the photos.
        image_size: side of the square samples in pixels; photos (bilinear) and labels (nearest) are
            squashed to it.
    """

    def __init__(self, photos: LabelledPhotos, names: Sequence[str], image_size: int) -> None:
        """Store the settings; no file is read."""
        self.photos, self.names, self.resize = photos, names, PairedResize(image_size)

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.names)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Load the sample of a photo."""
        name = self.names[key[1]]
        photo = self.photos.image(name)
        labels = torch.from_numpy(self.resize.labels(self.photos.labels(name)))[None]  # 1 H W
        return Sample(
            query_image=to_tensor(self.resize.image(photo)),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=[
                Prompt(
                    prompt_id=f"{name}__{label:02}",
                    query_mask=labels == label,
                    valid_mask=labels != IGNORED,
                    phrase=words,
                    text_prompt=words,
                    supports=[],
                    mix_weight=1.0,
                    class_id=label,
                    negative=False,
                )
                for label, words in enumerate(ZERO_SHOT_CLASSES)
            ],
        )
