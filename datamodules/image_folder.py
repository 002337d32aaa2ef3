"""Your own photos, masks and phrases as training and evaluation data."""

import logging
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from clipseg_pl.sample import Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.annotations import Annotations, reasons
from datamodules.datasets.augmentation import Augmentation
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.image_folder import (
    ImageFolder,
    reject_common_photos,
    validation_photos,
)
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.table_files import read_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Location of one split. Paths are absolute or relative to `root`.

    Args:
        table: CSV or JSONL of phrases (columns image, mask, phrase and optionally label), or a COCO
            JSON file.
        images: folder that photo paths are relative to; by default the table's folder.
        masks: folder that mask paths are relative to; by default the table's folder.
        augmentation: pipeline of albumentations, as `A.save(pipeline, file, data_format="yaml")`
            writes it, such as experiments/augmentation/photometric.yaml; only for training. Its
            path is absolute or relative to the working directory, like that of a config.
    """

    table: str = ""
    images: str | None = None
    masks: str | None = None
    augmentation: str | None = None


_DEFAULT_PROMPTING = Prompting()
_DEFAULT_TABLE = Table("own/phrases.csv")


class ImageFolderDataModule(BaseDataModule):
    """Your own photos, prompted like PhraseCut+; see docs/own_data.md.

    A task is one phrase about one photo: a row of a table, or all annotations of a photo with the
    same phrase in a COCO JSON file. The support image of a task is the photo of another task with
    the same phrase. Negatives are phrases that the photo is not annotated with.

    Args:
        root: folder that all paths are relative to, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample; the split into training
            and validation photos does not depend on it.
        prompting: settings for negatives, support images, prefixes and text weights.
        train: table for training.
        val: table for validation; by default a fraction of the photos in `train`.
        test: table for `test` and `predict`; by default the same as for validation.
        val_share: fraction of the photos in `train` used for validation if `val` is not given,
            above 0 and below 1.
        phrases_per_image: maximum number of phrases about a photo per training sample; the photo
            is encoded once for all of them.
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
        """Store the settings.

        Raises:
            ValueError: if a number is out of range, or data for evaluation are augmented.
        """
        super().__init__(root, image_size, batch_size, num_workers, seed)
        for name, table in (("val", val), ("test", test)):
            if table is not None and table.augmentation is not None:
                raise ValueError(f"{name}.augmentation is set, but only `train` can be augmented")
        if not 0 < val_share < 1:
            raise ValueError(f"val_share must be above 0 and below 1, not {val_share}")
        if phrases_per_image < 1:
            raise ValueError(f"phrases_per_image must be >= 1, not {phrases_per_image}")
        self.prompting, self.phrases_per_image = prompting, phrases_per_image
        self.tables: dict[Split, Table | None] = {"train": train, "val": val, "test": test or val}
        self.val_share, self.augmentation = val_share, train.augmentation
        self._read: dict[Table, Annotations] = {}

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        source = self._source(split)
        augmentation = None
        if split == "train" and self.augmentation is not None:
            augmentation = Augmentation(Path(self.augmentation).expanduser(), self.image_size)
        self.listed[split] = f"{source.annotations.file} has {len(source)} phrases of this split"
        return PromptedDataset(
            source,
            self.prompting,
            self.image_size,
            split == "train",
            self.seed,
            self.phrases_per_image,
            absent_negatives=True,
            augmentation=augmentation,
        )

    def _source(self, split: Split) -> ImageFolder:
        """Return the tasks of the split's own table, or of its share of the training table."""
        own = self.tables["val" if split == "train" else split]
        trained = self.tables["train"]
        assert trained is not None
        if own is None:
            every = self._annotations(trained)
            validated = validation_photos(every, self.val_share)
            return ImageFolder(every).about(~validated if split == "train" else validated)
        if split == "train":
            return ImageFolder(self._annotations(trained))
        if trained in self._read:  # read by `fit`, which uses both tables
            reject_common_photos(self._annotations(trained), self._annotations(own))
        return ImageFolder(self._annotations(own))

    def _annotations(self, location: Table) -> Annotations:
        """Read a table, or return it from memory.

        Raises:
            DatasetNotFoundError: if the table is missing.
            ValueError: if no table is given, its suffix is unknown, or its contents are invalid.
        """
        if location in self._read:
            return self._read[location]
        if not location.table:
            raise ValueError("images or masks are set without a table: set table as well")
        file = self.root / Path(location.table).expanduser()
        if not file.is_file():
            raise DatasetNotFoundError(
                f"{file}: no such table; set --data.init_args.train.table to a CSV, JSONL or COCO "
                "JSON file below --data.init_args.root (docs/own_data.md)"
            )
        images, masks = (self._folder(part, file) for part in (location.images, location.masks))
        kind = file.suffix.lower()
        if kind == ".json":
            annotations = read_coco(file, images)
        elif kind in (".csv", ".jsonl"):
            annotations = read_table(file, images, masks)
        else:
            raise ValueError(f"{file}: a table must end in .csv, .jsonl or .json (COCO's format)")
        if annotations.skipped:
            log.warning("%s: skipped %s", file, reasons(annotations.skipped))
            self.skipped[location.table] = annotations.skipped
        self._read[location] = annotations
        return annotations

    def _folder(self, folder: str | None, table: Path) -> Path:
        return table.parent if folder is None else self.root / Path(folder).expanduser()
