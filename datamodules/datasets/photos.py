"""Photos of one's own, all asked about by the same prompts."""

from collections.abc import Sequence

import torch
from torch.utils.data import Dataset

from clipseg_pl.images import image_size as size_of
from clipseg_pl.images import load_photo, resize, sides_seen, to_tensor
from clipseg_pl.photo_files import PhotoFile
from clipseg_pl.prompts.image_prompt import Prompt as PhotoPrompt
from clipseg_pl.prompts.image_prompt import describe, split
from clipseg_pl.sample import Batch, Prompt, Sample, collate

_NO_TARGET = torch.zeros(1, 1, 1, dtype=torch.bool)


class Photos(Dataset[Sample]):
    """Photos without targets; indexed by (epoch, photo).

    Each is seen as `Segmenter` sees it: whole, upright, its aspect kept. A photo that cannot be
    read has no prompts.

    Args:
        files: the photos.
        prompts: the same for each: words, an `ImagePrompt`, several of them, or a `Blend`.
        image_size: side of a square with about the area of what the model sees, in pixels.
        patch: side of the model's patches in pixels.

    Raises:
        ValueError: for what `ImagePrompt.load` refuses.
        UnreadableImageError: naming the file of an example.
    """

    def __init__(
        self,
        files: Sequence[PhotoFile],
        prompts: Sequence[PhotoPrompt],
        image_size: int,
        patch: int,
    ) -> None:
        """Read the sizes of the photos, and the examples."""
        self.files = files
        sizes = (size_of(photo.path, upright=True) for photo in files)
        self.sides = [size and sides_seen(size, image_size, patch) for size in sizes]
        self._prompts = [_read(prompt, row, image_size) for row, prompt in enumerate(prompts)]

    def __len__(self) -> int:
        """Number of photos."""
        return len(self.files)

    def batches(self, batch_size: int) -> list[list[int]]:
        """Photos that the model sees at one size, by that size; those without one are left out."""
        alike: dict[tuple[int, int], list[int]] = {}
        for number, sides in enumerate(self.sides):
            if sides:
                alike.setdefault(sides, []).append(number)
        return [
            numbers[first : first + batch_size]
            for numbers in alike.values()
            for first in range(0, len(numbers), batch_size)
        ]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Read a photo."""
        number = key[1]
        sides = self.sides[number]
        assert sides
        try:
            photo = load_photo(self.files[number].path)
        except (OSError, ValueError):
            no_image = torch.empty(3, *sides, dtype=torch.uint8)
            return Sample(query_image=no_image, query_size=sides, prompts=[])
        prompts = [
            {**prompt, "prompt_id": f"{number}/{prompt['prompt_id']}"} for prompt in self._prompts
        ]
        return Sample(
            query_image=resize(photo, sides),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=prompts,  # type: ignore[typeddict-item]  # Prompt, with another name
        )


def collate_readable(samples: Sequence[Sample]) -> Batch:
    """Lay side by side what could be read."""
    return collate([sample for sample in samples if sample["prompts"]])


def _read(prompt: PhotoPrompt, row: int, image_size: int) -> Prompt:
    """A prompt about no photo yet."""
    words, examples, weight = split(prompt)
    return Prompt(
        prompt_id=str(row),
        query_mask=_NO_TARGET,
        valid_mask=_NO_TARGET,
        phrase=describe(prompt),
        text_prompt=words,
        supports=[to_tensor(example.engineered(image_size)) for example in examples],
        mix_weight=weight,
        class_id=-1,
        negative=False,
    )
