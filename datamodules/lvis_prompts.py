"""Generalised prompts (affordances, attributes and parts) on LVIS as validation data."""

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import NOT_WHOLE, BaseDataModule, Split
from datamodules.datasets.exclusion import AFFORDANCE_WORDS
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.lvis_prompts import GeneralisedPrompts


class LVISPromptsDataModule(BaseDataModule):
    """Affordances, attributes and parts ("sit on", "can fly", "has wheels") on LVIS val.

    Args:
        root: folder that contains LVIS, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: photos per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for the random crops.
        allow_seen: also evaluate checkpoints whose training did not exclude affordance words.

    Reference: paper, section 5.4, Table 8.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
        allow_seen: bool = False,
    ) -> None:
        """Store the settings."""
        super().__init__(root, image_size, batch_size, num_workers, seed)
        self.held_out = () if allow_seen else AFFORDANCE_WORDS
        self.no_predict = NOT_WHOLE

    def build(self, split: Split) -> Dataset[Sample]:
        """Read the annotations. Only evaluation is supported.

        Raises:
            ValueError: for the training split.
        """
        if split == "train":
            raise ValueError(
                "generalised prompts are for evaluation only: train on PhraseCut or LVIS names"
            )
        lvis = LVIS(self.root, ["val"])
        self.listed["val"] = lvis.listed
        dataset = GeneralisedPrompts(lvis, self.image_size, self.seed)
        self.skipped["val"] = {"that cover 3 % of their photo at most": dataset.too_small}
        return dataset

    def split_name(self, split: Split) -> str:
        """Return "val", the only split."""
        return "val"
