"""Photos without annotations, each segmented with the same prompts."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.utils.data import Dataset

from clipseg_pl.images import image_size as size_of
from clipseg_pl.images import load_photo, resize, size_for_model, to_tensor
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.prompts.image_prompt import Prompt as PhotoPrompt
from clipseg_pl.prompts.image_prompt import describe, split
from clipseg_pl.sample import Batch, Prompt, Sample, collate

_NO_TARGET = torch.zeros(1, 1, 1, dtype=torch.bool)


class Photos(Dataset[Sample]):
    """Photos without targets, indexed by (epoch, photo).

    Photos are prepared as in `Segmenter`: the whole photo, after EXIF orientation, with its aspect
    ratio preserved. Samples of unreadable photos have no prompts.

    Args:
        files: photo files, not URLs.
        prompts: prompts for every photo: text, an `ImagePrompt`, a list of them, or a `Blend`.
        image_size: side in pixels of a square; photos are resized to about its area.
        patch: side of the model's patches in pixels.

    Raises:
        ValueError: if an `ImagePrompt` is invalid, see `ImagePrompt.load`.
        UnreadableImageError: if the image or mask of an `ImagePrompt` is unreadable.
    """

    def __init__(
        self,
        files: Sequence[PhotoFile],
        prompts: Sequence[PhotoPrompt],
        image_size: int,
        patch: int,
    ) -> None:
        """Read the sizes of the photos and the images of the visual prompts."""
        self.files = files
        sizes = (size_of(Path(photo.source), upright=True) for photo in files)
        self.sides = [size and size_for_model(size, image_size, patch) for size in sizes]
        self._prompts = [_load(prompt, row, image_size) for row, prompt in enumerate(prompts)]

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.files)

    def batches(self, batch_size: int) -> list[list[int]]:
        """Return batches of photos with equal input sizes, leaving out unreadable photos."""
        by_sides: dict[tuple[int, int], list[int]] = {}
        for number, sides in enumerate(self.sides):
            if sides:
                by_sides.setdefault(sides, []).append(number)
        return [
            numbers[first : first + batch_size]
            for numbers in by_sides.values()
            for first in range(0, len(numbers), batch_size)
        ]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Read the sample of a photo."""
        number = key[1]
        sides = self.sides[number]
        assert sides
        try:
            photo = load_photo(self.files[number].source)
        except (OSError, ValueError):
            no_image = torch.empty(3, *sides, dtype=torch.uint8)
            return Sample(query_image=no_image, query_size=sides, prompts=[])
        prompts = [
            {**prompt, "prompt_id": f"{number}/{prompt['prompt_id']}"} for prompt in self._prompts
        ]
        return Sample(
            query_image=resize(photo, sides),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=prompts,  # type: ignore[typeddict-item]  # a Prompt with another prompt_id
        )


def collate_readable(samples: Sequence[Sample]) -> Batch:
    """Collate the samples of readable photos."""
    return collate([sample for sample in samples if sample["prompts"]])


def _load(prompt: PhotoPrompt, row: int, image_size: int) -> Prompt:
    """Prepare a prompt that is not yet assigned to a photo."""
    text, examples, weight = split(prompt)
    return Prompt(
        prompt_id=str(row),
        query_mask=_NO_TARGET,
        valid_mask=_NO_TARGET,
        phrase=describe(prompt),
        text_prompt=text,
        supports=[to_tensor(example.engineered(image_size)) for example in examples],
        mix_weight=weight,
        class_id=-1,
        negative=False,
    )
