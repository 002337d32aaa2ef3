"""Generalised zero-shot segmentation of Pascal VOC as validation data."""

from torch.utils.data import Dataset

from clipseg_pl.sample import Classes, Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.labelled import open_voc, read_voc_list, voc_list
from datamodules.datasets.pascal_5i import VOC_CLASSES, ZERO_SHOT_CLASSES, unseen_classes
from datamodules.datasets.pascal_zero_shot import ZeroShotDataset


class PascalZeroShotDataModule(BaseDataModule):
    """Photos of VOC2012 val with 21 prompts each: "background" and JoEm's names of the 20 classes.

    The names and the sets of unseen classes are those of JoEm (Baek et al., ICCV 2021).
    Photos and labels are squashed to squares, as in the authors' code.

    Args:
        root: folder that contains VOC2012, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: photos per step and device; each has 21 prompts.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: not used; nothing is random.
        unseen: number of classes excluded from training: 2, 4, 6, 8 or 10.
        allow_seen: also evaluate checkpoints whose training did not exclude these classes.

    Reference: paper, section 5.2, Table 4.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 8,
        num_workers: int = 4,
        seed: int = 0,
        unseen: int = 10,
        allow_seen: bool = False,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if the benchmark has no set of this many unseen classes.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        names = unseen_classes(unseen)
        self.held_out = () if allow_seen else names
        unseen_labels = frozenset(VOC_CLASSES.index(name) + 1 for name in names)
        self.classes = Classes(ZERO_SHOT_CLASSES, unseen_labels)

    def build(self, split: Split) -> Dataset[Sample]:
        """List the photos. Only evaluation is supported.

        Raises:
            ValueError: for the training split.
        """
        if split == "train":
            raise ValueError(
                "Pascal zero-shot is for evaluation only: train with PhraseCutDataModule"
            )
        photos = open_voc(self.root, augmented=False)
        names = read_voc_list(self.root, "val")
        self.listed["val"] = f"{voc_list(self.root, 'val')} lists {len(names)} photos"
        return ZeroShotDataset(photos, names, self.image_size)

    def split_name(self, split: Split) -> str:
        """Return "val", the only split."""
        return "val"
