"""LVIS's object names as training and validation data."""

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
    """Each category of LVIS in each photo, by its name, prompted as PhraseCut+ is.

    Most categories of LVIS are neither annotated nor known to be absent on a photo. What asks for
    something absent, negatives in training and absent phrases in evaluation, is drawn from the
    categories that the photo lists as absent (`neg_category_ids`). A photo that lists none has no
    negatives and no absent phrase.

    The paper's "CLIPSeg (LVIS)" was trained so; its config and its archive are not public.

    Args:
        root: folder that holds LVIS, or "toy" for the embedded toy world.
        image_size: side of the samples in pixels, a multiple of the backbone's patch.
        batch_size: query images a step and device.
        num_workers: processes that read and prepare samples; 0 does it in the main process.
        seed: of the shuffling and of everything drawn for a sample.
        prompting: negatives, supports, prefixes and mixing weights.
        exclusion: names that training leaves out; evaluation never does.

    Reference: paper section 5.4, Table 8.
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
    ) -> None:
        """Keep the settings."""
        super().__init__(root, image_size, batch_size, num_workers, seed)
        self.prompting, self.exclusion = prompting, exclusion

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        train, name = split == "train", self.split_name(split)
        lvis = LVIS(self.root, [name])
        every = LVISNames(lvis)
        self.listed[name] = lvis.listed
        source = every
        if train and self.exclusion.held_out:
            source = every.without(self.exclusion.left_out())
            left_out = len(every) - len(source)
            self.skipped[name] = {"whose phrases name what is held out": left_out}
        return PromptedDataset(
            source, self.prompting, self.image_size, train, self.seed, absent_negatives=True
        )

    @property
    def excluded(self) -> list[str]:
        """VOC's names of the classes held out, or the words of the affordances."""
        return self.exclusion.names

    def split_name(self, split: Split) -> str:
        """LVIS has no annotations of a test split."""
        return "train" if split == "train" else "val"
