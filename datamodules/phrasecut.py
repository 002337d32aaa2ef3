"""PhraseCut and PhraseCut+ as training and validation data."""

from typing import Literal, get_args

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.exclusion import Exclusion
from datamodules.datasets.phrasecut import PhraseCut
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.transforms import Rasterizer

_DEFAULT_PROMPTING = Prompting()
_NOTHING = Exclusion()


class PhraseCutDataModule(BaseDataModule):
    """PhraseCut referring expressions; with the default `prompting`, PhraseCut+ (PC+).

    Args:
        root: folder that contains VGPhraseCut_v0, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample.
        prompting: settings for negatives, support images, prefixes, and the share of the text in
            blended prompts.
        val_split: split for `validate` and for validation during `fit`; the paper's tables use
            test.
        rasterizer: how polygons become masks in evaluation; training always uses "coco".
        exclusion: phrases to exclude from training; evaluation uses all phrases.
        phrases_per_image: maximum number of phrases about a photo per training sample; the photo
            is encoded once for all of them.
        without_photos_of: names of benchmarks on COCO photos, whose evaluated photos are left out
            of training; see docs/evaluate.md (photos seen in training).

    Reference: paper, section 4.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        prompting: Prompting = _DEFAULT_PROMPTING,
        val_split: Literal["val", "miniv", "test"] = "val",
        rasterizer: Rasterizer = "coco",
        exclusion: Exclusion = _NOTHING,
        phrases_per_image: int = 1,
        without_photos_of: list[str] | None = None,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if a number is below 1, or the rasterizer is unknown.
        """
        super().__init__(
            root, image_size, batch_size, num_workers, seed, without_photos_of, phrases_per_image
        )
        if rasterizer not in get_args(Rasterizer):
            known = ", ".join(get_args(Rasterizer))
            raise ValueError(f"rasterizer must be one of {known}, not {rasterizer!r}")
        self.prompting, self.val_split, self.rasterizer = prompting, val_split, rasterizer
        self.exclusion = exclusion

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        train, name = split == "train", self.split_name(split)
        every = PhraseCut(self.root, name, "coco" if train else self.rasterizer)
        source = every
        self.listed[name] = f"refer_{name}.json has {len(every)} phrases about its photos"
        skipped = {reason: len(ids) for reason, ids in every.index.skipped.items()}
        if train and self.exclusion.held_out:
            source = every.without(self.exclusion.phrase_filter())
            skipped["with held-out words"] = len(every) - len(source)
        self.skipped[name] = skipped
        if train:
            source = self.leave_out_photos(source)
        return PromptedDataset(
            source, self.prompting, self.image_size, train, self.seed, self.phrases_per_image
        )

    @property
    def excluded(self) -> list[str]:
        """VOC's names of the held-out classes, or the held-out affordance words."""
        return self.exclusion.names

    def split_name(self, split: Split) -> str:
        """Return the split's name on disk; for "val" it is `val_split`."""
        return self.val_split if split == "val" else split
