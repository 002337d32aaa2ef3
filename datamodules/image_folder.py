"""Own photos, masks and phrases as training and validation data."""

import logging
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.annotations import Annotations, reasons
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.image_folder import (
    ImageFolder,
    refuse_common_photos,
    validation_photos,
)
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.table_files import read_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Where a part of the data lies; all paths are below `root`, or absolute.

    Args:
        table: CSV or JSONL of phrases (columns image, mask, phrase and perhaps label), or a COCO
            json.
        images: folder that the names of photos start from; by default the table's own.
        masks: folder that the names of masks start from; by default the table's own.
    """

    table: str = ""
    images: str | None = None
    masks: str | None = None


_DEFAULT_PROMPTING = Prompting()
_DEFAULT_TABLE = Table("own/phrases.csv")


class ImageFolderDataModule(BaseDataModule):
    """Your own photos, prompted as PhraseCut+ is; see docs/own_data.md.

    A row of a table, or a phrase about a photo in a COCO json, is a task; tasks with equal phrases
    are each other's supports, and negatives are phrases that the photo is not annotated with.

    Args:
        root: folder that paths start from, or "toy" for the embedded toy world.
        image_size: side of the samples in pixels, a multiple of the backbone's patch.
        batch_size: query images a step and device.
        num_workers: processes that read and prepare samples; 0 does it in the main process.
        seed: of the shuffling and of everything drawn for a sample; the parts do not depend on it.
        prompting: negatives, supports, prefixes and mixing weights.
        train: the table to train on.
        val: the table to validate on; by default a share of the photos of `train`.
        test: the table of `test` and `predict`; by default what `val` says.
        val_share: of the photos of `train`, above 0 and below 1; read where there is no `val`.
        phrases_per_image: phrases of a photo that train on one encoding of it, at most.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: int = 352,
        batch_size: int = 64,
        num_workers: int = 4,
        seed: int = 0,
        prompting: Prompting = _DEFAULT_PROMPTING,
        train: Table = _DEFAULT_TABLE,
        val: Table | None = None,
        test: Table | None = None,
        val_share: float = 0.1,
        phrases_per_image: int = 1,
    ) -> None:
        """Keep the settings.

        Raises:
            ValueError: for numbers out of range.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        if not 0 < val_share < 1:
            raise ValueError(f"val_share lies between 0 and 1, not {val_share}")
        if phrases_per_image < 1:
            raise ValueError(f"phrases_per_image is at least 1, not {phrases_per_image}")
        self.prompting, self.phrases_per_image = prompting, phrases_per_image
        self.tables: dict[Split, Table | None] = {"train": train, "val": val, "test": test or val}
        self.val_share = val_share
        self._read: dict[Table, Annotations] = {}

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        source = self._source(split)
        self.listed[split] = f"{source.annotations.file} has {len(source)} phrases of this split"
        return PromptedDataset(
            source,
            self.prompting,
            self.image_size,
            split == "train",
            self.seed,
            self.phrases_per_image,
            absent_negatives=True,
        )

    def _source(self, split: Split) -> ImageFolder:
        """A table of its own, or the part of the training table."""
        own = self.tables["val" if split == "train" else split]
        trained = self.tables["train"]
        assert trained is not None
        if own is None:
            every = self._annotations(trained)
            validated = validation_photos(every, self.val_share)
            return ImageFolder(every).about(~validated if split == "train" else validated)
        if split == "train":
            return ImageFolder(self._annotations(trained))
        if trained in self._read:  # fit: they are measured beside each other
            refuse_common_photos(self._annotations(trained), self._annotations(own))
        return ImageFolder(self._annotations(own))

    def _annotations(self, given: Table) -> Annotations:
        """Read a table, once.

        Raises:
            DatasetNotFoundError: if it is missing.
            ValueError: if it is none, by its name or its contents.
        """
        if given in self._read:
            return self._read[given]
        if not given.table:
            raise ValueError("images or masks without a table: name it beside them (.table)")
        file = self.root / Path(given.table).expanduser()
        if not file.is_file():
            raise DatasetNotFoundError(
                f"{file}: no such table; name a CSV, a JSONL or a COCO json below "
                "--data.init_args.root with --data.init_args.train.table (docs/own_data.md)"
            )
        images, masks = (self._folder(part, file) for part in (given.images, given.masks))
        kind = file.suffix.lower()
        if kind == ".json":
            annotations = read_coco(file, images)
        elif kind in (".csv", ".jsonl"):
            annotations = read_table(file, images, masks)
        else:
            raise ValueError(f"{file}: a table ends in .csv, .jsonl or .json (COCO's format)")
        if annotations.skipped:
            log.warning("%s: skipped %s", file, reasons(annotations.skipped))
            self.skipped[given.table] = annotations.skipped
        self._read[given] = annotations
        return annotations

    def _folder(self, given: str | None, table: Path) -> Path:
        return table.parent if given is None else self.root / Path(given).expanduser()
