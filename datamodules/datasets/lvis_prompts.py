"""Generalised prompts: affordances and attributes of LVIS categories, such as "sit on"."""

import numpy as np
import torch
from torch.utils.data import Dataset

from clipseg_pl.images import to_tensor
from clipseg_pl.sample import Prompt, Sample
from datamodules.datasets.lvis import LVIS, Pair
from datamodules.datasets.transforms import PairedResize, object_aware_crop

_SEATS = (
    "armchair", "sofa", "loveseat", "deck chair", "rocking chair", "highchair", "folding chair",
    "chair", "recliner", "wheelchair",
)  # fmt: skip
_VEHICLES = (
    "car (automobile)", "cab (taxi)", "minivan", "bus (vehicle)", "jeep", "ambulance",
)  # fmt: skip
_BIRDS = ("eagle", "bird", "duck", "gull", "owl", "seabird", "pigeon", "goose", "parakeet")
_WALKERS = (
    "dog", "cat", "flamingo", "penguin", "cow", "puppy", "sheep", "black sheep", "ostrich",
    "ram (animal)", "chicken (animal)", "person",
)  # fmt: skip

PROMPT_CATEGORIES: dict[str, tuple[str, ...]] = {
    "sit on": _SEATS,
    "drink from": ("bottle", "beer bottle", "water bottle", "wine bottle", "thermos bottle"),
    "ride on": ("horse", "pony", "motorcycle"),
    "can fly": (*_BIRDS, "jet plane", "airplane", "fighter jet"),
    "can be driven": _VEHICLES,
    "can swim": ("duck", "duckling", "water scooter", "penguin", "boat", "kayak", "canoe"),
    "has wheels": (*_VEHICLES, "dirt bike", "wheelchair", "motorcycle", "bicycle"),
    "has legs": (*_SEATS, *_BIRDS, *_WALKERS, "horse", "pony"),
}
"""LVIS categories that each prompt applies to; the paper's lists"""

_MIN_AREA = 0.03  # fraction of the photo
_CROP_SHARE = 0.02  # `share` of `object_aware_crop`


class GeneralisedPrompts(Dataset[Sample]):
    """One sample per photo and category, indexed by (epoch, sample); the epoch is ignored.

    A sample has all prompts that apply to its category, while the authors sample one of them. See
    docs/deviations.md (lvis-prompts). As in the authors' code, the target is this category alone,
    even if the photo shows other categories that the prompt applies to.

    Args:
        lvis: annotations and photos.
        image_size: side of the samples in pixels.
        seed: seed of the random crops.

    Reference: paper, section 5.4 and Table 8.
    """

    def __init__(self, lvis: LVIS, image_size: int, seed: int) -> None:
        """List the pairs whose category has a prompt and covers more than 3 % of its photo."""
        self.lvis, self.seed, self.resize = lvis, seed, PairedResize(image_size)
        self.prompts = {
            category: [prompt for prompt, names in PROMPT_CATEGORIES.items() if name in names]
            for category, name in lvis.names.items()
        }
        prompted = [pair for pair in lvis.pairs if self.prompts[pair.category]]
        self.pairs: list[Pair] = [pair for pair in prompted if lvis.mask(pair).mean() > _MIN_AREA]
        self.too_small = len(prompted) - len(self.pairs)
        """number of pairs skipped because the category covers at most 3 % of the photo"""
        self.coco_ids = lvis.coco_ids(pair.image for pair in self.pairs)
        """(samples,) int64, COCO's id of each photo, -1 for other photos"""

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Read the sample of a photo and category."""
        pair = self.pairs[key[1]]
        photo, mask = self.lvis.photo(pair.image), self.lvis.mask(pair)
        rng = np.random.default_rng([self.seed, key[1]])
        image, mask = self.resize(photo, mask, object_aware_crop(mask, rng, _CROP_SHARE))
        target = torch.from_numpy(mask)[None]
        return Sample(
            query_image=to_tensor(image),
            query_size=(photo.shape[0], photo.shape[1]),
            prompts=[
                Prompt(
                    prompt_id=f"{pair.image}__{pair.category}__{prompt.replace(' ', '_')}",
                    query_mask=target,
                    valid_mask=torch.ones_like(target),
                    phrase=prompt,
                    text_prompt=prompt,
                    supports=[],
                    mix_weight=1.0,
                    class_id=-1,
                    negative=False,
                )
                for prompt in self.prompts[pair.category]
            ],
        )
