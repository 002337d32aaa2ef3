"""LVIS category names as training and validation data."""

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.exclusion import Exclusion
from datamodules.datasets.lvis import LVIS
from datamodules.datasets.lvis_names import LVISNames
from datamodules.datasets.prompted import PromptedDataset, Prompting

_DEFAULT_PROMPTING = Prompting()
_NOTHING = Exclusion()


class LVISNamesDataModule(BaseDataModule):
    """Category names of LVIS as phrases, prompted like PhraseCut+.

    LVIS annotations are not exhaustive: most categories are neither annotated on a photo nor known
    to be absent. Negatives in training and absent phrases in evaluation are therefore sampled from
    the categories that the photo lists as absent (`neg_category_ids`). A photo without this list
    has neither.

    The paper's "CLIPSeg (LVIS)" was trained on LVIS names. Its config and data archive are not
    public. See docs/deviations.md (lvis-names).

    Args:
        root: folder that contains LVIS, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample.
        prompting: settings for negatives, support images, prefixes and text weights.
        exclusion: names to exclude from training; evaluation uses all names.
        without_photos_of: names of benchmarks on COCO photos, whose evaluated photos are left out
            of training; see docs/evaluate.md (photos seen in training).

    Reference: paper, section 5.4, Table 8.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        prompting: Prompting = _DEFAULT_PROMPTING,
        exclusion: Exclusion = _NOTHING,
        without_photos_of: list[str] | None = None,
    ) -> None:
        """Store the settings."""
        super().__init__(root, image_size, batch_size, num_workers, seed, without_photos_of)
        self.prompting, self.exclusion = prompting, exclusion

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        train, name = split == "train", self.split_name(split)
        lvis = LVIS(self.root, [name])
        every = LVISNames(lvis)
        self.listed[name] = lvis.listed
        source = every
        if train and self.exclusion.held_out:
            source = every.without(self.exclusion.phrase_filter())
            self.skipped[name] = {"with held-out words": len(every) - len(source)}
        if train:
            source = self.leave_out_photos(source)
        return PromptedDataset(
            source, self.prompting, self.image_size, train, self.seed, absent_negatives=True
        )

    @property
    def excluded(self) -> list[str]:
        """VOC's names of the held-out classes, or the held-out affordance words."""
        return self.exclusion.names

    def split_name(self, split: Split) -> str:
        """Return "train" or "val"; LVIS has no annotated test split."""
        return "train" if split == "train" else "val"
