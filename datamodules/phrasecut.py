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
    """PhraseCut: referring expressions; with the default prompting, PhraseCut+ (PC+).

    Args:
        root: folder that holds VGPhraseCut_v0, or "toy" for the embedded toy world.
        image_size: side of the samples in pixels, a multiple of the backbone's patch.
        batch_size: query images a step and device.
        num_workers: processes that read and prepare samples; 0 does it in the main process.
        seed: of the shuffling and of everything drawn for a sample.
        prompting: negatives, supports, prefixes and mixing weights.
        val_split: what `validate` reads, and `fit` between steps; the paper's tables are on test.
        rasterizer: how polygons become masks in evaluation; training always uses "coco".
        exclusion: phrases that training leaves out; evaluation never does.
        phrases_per_image: phrases of a photo that train on one encoding of it, at most.

    Reference: paper section 4.
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
    ) -> None:
        """Keep the settings.

        Raises:
            ValueError: for numbers below 1 and an unknown rasterizer.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        if phrases_per_image < 1:
            raise ValueError(f"phrases_per_image is at least 1, not {phrases_per_image}")
        if rasterizer not in get_args(Rasterizer):
            known = ", ".join(get_args(Rasterizer))
            raise ValueError(f"rasterizer is one of {known}, not {rasterizer!r}")
        self.phrases_per_image = phrases_per_image
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
            source = every.without(self.exclusion.left_out())
            skipped["whose phrases name what is held out"] = len(every) - len(source)
        self.skipped[name] = skipped
        return PromptedDataset(
            source, self.prompting, self.image_size, train, self.seed, self.phrases_per_image
        )

    @property
    def excluded(self) -> list[str]:
        """VOC's names of the classes held out, or the words of the affordances."""
        return self.exclusion.names

    def split_name(self, split: Split) -> str:
        """Name on disk: validation may read another split."""
        return self.val_split if split == "val" else split
