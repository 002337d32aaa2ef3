"""Your own photos, masks and phrases as training and evaluation data."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from clipseg_pl.sample import Classes, Sample
from datamodules.base import BaseDataModule, Split
from datamodules.datasets.annotations import Annotations, class_phrase, reasons
from datamodules.datasets.augmentation import Augmentation
from datamodules.datasets.coco_json import read_coco
from datamodules.datasets.exports import read_export
from datamodules.datasets.files import DatasetNotFoundError
from datamodules.datasets.image_folder import ImageFolder, find_copies, validation_photos
from datamodules.datasets.merge import Phrasings, complete_phrasings, merge, read_phrasings
from datamodules.datasets.phrase_table import Strings
from datamodules.datasets.prompted import PromptedDataset, Prompting
from datamodules.datasets.table_files import read_table
from datamodules.datasets.yolo import read_yolo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Location of one split. Paths are absolute or relative to `root`.

    Args:
        table: CSV or JSONL of phrases (columns image, mask, phrase and optionally label), a COCO
            JSON file, the YAML file of a YOLO dataset, the folder of an export, or a list of these,
            which become one dataset.
        images: folder that photo paths are relative to; by default the table's folder.
        masks: folder that mask paths are relative to; by default the table's folder.
        augmentation: pipeline of albumentations, as `A.save(pipeline, file, data_format="yaml")`
            writes it, such as experiments/augmentation/photometric.yaml; only for training. Its
            path is absolute or relative to the working directory, like that of a config.
    """

    table: list[str] | str = ""
    images: str | None = None
    masks: str | None = None
    augmentation: str | None = None


_DEFAULT_PROMPTING = Prompting()
_DEFAULT_TABLE = Table("own/phrases.csv")
MOST_CLASSES = 100
"""with more phrases, results are not reported by phrase"""


_Selection = npt.NDArray[np.bool_]
"""(photos,) bool"""


class _Entry(NamedTuple):
    """A table file, or an export with several splits."""

    path: Path
    splits: Mapping[Split, Annotations]
    """a table file has only a training split, whatever it is used for"""

    def of(self, split: Split) -> Annotations:
        """Return the only table, or the split of an export.

        Raises:
            ValueError: if an export has other splits only.
        """
        if split not in self.splits and len(self.splits) > 1:
            raise ValueError(
                f"{self.path}: the export has no {split} split: set {split}.table to other data"
            )
        return self.splits.get(split, self.splits["train"])


class _Part(NamedTuple):
    """A table, and which of its photos belong to a split."""

    table: Annotations
    photos: _Selection

    def files(self) -> list[str]:
        """Return the absolute paths of the photos."""
        chosen = zip(self.table.photo_files(), self.photos.tolist(), strict=True)
        return [file for file, belongs in chosen if belongs]


class ImageFolderDataModule(BaseDataModule):
    """Your own photos, prompted like PhraseCut+; see docs/own_data.md.

    A task is one phrase about one photo, with all rows or annotations of this photo and phrase. The
    support image of a task is the photo of another task with the same phrase. Negatives are phrases
    that the photo is not annotated with. Photos without annotations in a COCO JSON file are used as
    negatives.

    Args:
        root: folder that all paths are relative to, or "toy" for the built-in toy world.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample; the split into training
            and validation photos does not depend on it.
        prompting: settings for negatives, support images, prefixes and text weights.
        train: tables for training. The folder of an export also gives the data for `val` and
            `test`, if these are not set.
        val: tables for validation; by default a fraction of the photos in `train`.
        test: tables for `test` and `predict`; by default the same as for validation.
        val_share: fraction of the photos in `train` used for validation if `val` is not given,
            above 0 and below 1.
        phrases_per_image: maximum number of phrases about a photo per training sample; the photo
            is encoded once for all of them.
        boxes: "rectangles" fills annotations that have a box and no mask; by default they are
            rejected.
        phrases: phrase or phrases of each class, or None to leave it out. Classes with the same
            phrases are joined; other classes keep their own name. Training samples one of the
            phrases. The name of a YAML or JSON file below `root` is accepted, too.
        evaluate_phrasings: evaluate the "first" phrase of each class, or "all".
        ignore_label: value of label maps that marks pixels to ignore.
        negatives_across_tables: also use phrases of other tables as negatives of a photo. By
            default only phrases of its own tables are used, since the objects of other tables may
            be present without annotation.
        without_photos_of: names of benchmarks on COCO photos, whose evaluated photos are left out
            of training; see docs/evaluate.md (photos seen in training).
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
        boxes: Literal["rectangles"] | None = None,
        phrases: dict[str, Any] | str | None = None,
        evaluate_phrasings: Literal["first", "all"] = "first",
        ignore_label: int | None = 255,
        negatives_across_tables: bool = False,
        without_photos_of: list[str] | None = None,
    ) -> None:
        """Store the settings.

        Raises:
            ValueError: if a number is out of range, or data for evaluation are augmented.
        """
        super().__init__(
            root, image_size, batch_size, num_workers, seed, without_photos_of, phrases_per_image
        )
        for name, table in (("val", val), ("test", test)):
            if table is not None and table.augmentation is not None:
                raise ValueError(f"{name}.augmentation is set, but only `train` can be augmented")
        if not 0 < val_share < 1:
            raise ValueError(f"val_share must be above 0 and below 1, not {val_share}")
        self.prompting = prompting
        self.tables: dict[Split, Table | None] = {"train": train, "val": val, "test": test}
        self.val_share, self.boxes, self.phrases = val_share, boxes, phrases
        self.augmentation = train.augmentation
        self.evaluate_phrasings, self.ignore_label = evaluate_phrasings, ignore_label
        self.negatives_across_tables = negatives_across_tables
        self._read: dict[tuple[str, str | None, str | None], _Entry] = {}
        self._reported: set[str] = set()
        self._shared: list[tuple[_Entry, _Selection]] | None = None
        self._phrasings: Phrasings | None = None
        self.accept_copies = False
        """whether photos may be used for both training and evaluation; `doctor` lists them"""

    def setup(self, stage: str) -> None:
        """Build the datasets of a stage, and name the classes of its evaluated split."""
        super().setup(stage)
        dataset = self.datasets["val" if stage in ("fit", "validate") else "test"]
        assert isinstance(dataset, PromptedDataset)
        phrases = range(len(dataset.source.phrases)) if dataset.class_ids else ()
        phrasings = tuple(tuple(dataset.source.phrasings(index)) for index in phrases)
        self.classes = Classes(tuple(own[0] for own in phrasings), phrasings=phrasings)

    def build(self, split: Split) -> Dataset[Sample]:
        """Build the samples of a split."""
        parts = self._parts(split)
        if split != "train" and not self.accept_copies:
            self._reject_copies(parts)
        source = self._source(split, parts)
        file, tasks = source.annotations.file, len(source) - len(source.without_annotations())
        self.listed[split] = f"{file} has {tasks} tasks in this split"
        augmentation = None
        if split == "train" and self.augmentation is not None:
            augmentation = Augmentation(Path(self.augmentation).expanduser(), self.image_size)
        return PromptedDataset(
            source,
            self.prompting,
            self.image_size,
            split == "train",
            self.seed,
            self.phrases_per_image,
            absent_negatives=True,
            all_phrasings=self.evaluate_phrasings == "all",
            class_ids=len(source.phrases) <= MOST_CLASSES,
            augmentation=augmentation,
        )

    def summary(self) -> dict[str, Any]:
        """Return the number of photos of each split and phrase.

        Returns:
            Split -> "photos", "without annotations", "filled from boxes" (annotations) and
            "phrases" (phrase -> number of photos; empty if there are more than 100 phrases). Test
            data that are the validation data have "same photos as": "val".
        """
        counts: dict[str, Any] = {}
        for split, dataset in self.datasets.items():
            assert isinstance(dataset, PromptedDataset) and isinstance(dataset.source, ImageFolder)
            counts[split] = dataset.source.counts(dataset.class_ids)
        if "test" in counts and self._is_tested_on_validation():
            counts["test"]["same photos as"] = "val"
        return counts

    def _is_tested_on_validation(self) -> bool:
        """Return whether there are no test data, so that `_parts` returns the validation data."""
        return self.tables["test"] is None and not any(
            "test" in entry.splits for entry in self._training_if_found()
        )

    def _source(self, split: Split, parts: Sequence[_Part]) -> ImageFolder:
        """Return the tasks about the photos of a split."""
        tables = [part.table for part in parts]
        for table in tables:
            self._report(table)
        merged = merge(tables, self._all_phrasings(), self.negatives_across_tables)
        if merged is not tables[0]:
            self._report_skipped(f"{' and '.join(map(self._name, tables))} (merged)", merged)
        chosen = {file for part in parts for file in part.files()}
        belongs = [file in chosen for file in merged.photo_files()]
        source = ImageFolder(merged, evaluated=split != "train").about(np.array(belongs, np.bool_))
        return self.leave_out_photos(source) if split == "train" else source

    def _parts(self, split: Split) -> list[_Part]:
        """Return the tables of a split, and the photos of each that belong to the split."""
        location, validation = self.tables[split], self.tables["val"]
        if split == "train":
            return [_Part(entry.of("train"), ~chosen) for entry, chosen in self._training()]
        if location is not None:
            entries = self._entries(location)
            for entry in entries:
                if entry.path.is_dir() and split not in entry.splits:
                    self._log_once(f"{entry.path}: {split} uses its only split, train")
            return [_whole(entry.of(split)) for entry in entries]
        if validation is not None:  # a test split, whose default is the validation data
            exports = (entry.splits for entry in self._training_if_found())
            return [_whole(splits["test"]) for splits in exports if "test" in splits] or (
                self._parts("val")
            )
        own: Sequence[Split] = ("test", "val") if split == "test" else ("val",)
        return [
            next((_whole(entry.splits[name]) for name in own if name in entry.splits), None)
            or _Part(entry.of("train"), chosen)
            for entry, chosen in self._training()
        ]

    def _training(self) -> list[tuple[_Entry, _Selection]]:
        """Return the entries of `train`, and the photos of each that validation uses."""
        if self._shared is None:
            entries = self._entries(self.tables["train"])
            chosen = [self._validated(entry) for entry in entries]
            self._shared = list(zip(entries, _with_copies(entries, chosen), strict=True))
        return self._shared

    def _validated(self, entry: _Entry) -> _Selection:
        """Choose the validation photos of a table or of an export without a validation split."""
        table = entry.of("train")
        if self.tables["val"] is not None and "val" in entry.splits:
            self._log_once(f"{entry.path}: its validation photos are not used, as val is set")
        if self.tables["val"] is not None or "val" in entry.splits:
            return np.zeros(len(table.photos), np.bool_)
        chosen = validation_photos(table, self.val_share)
        if entry.path.is_dir():
            log.warning(
                "%s has no validation split: %d of its %d training photos are used for it",
                entry.path,
                chosen.sum(),
                len(chosen),
            )
        return chosen

    def _training_if_found(self) -> list[_Entry]:
        """Return the entries of `train`, or none if it does not exist; evaluations go without."""
        if self._exists(self.tables["train"]):
            return self._entries(self.tables["train"])
        self._log_once("training data not found: not checked for copies")
        return []

    def _exists(self, location: Table | None) -> bool:
        """Return whether any table of a location exists."""
        return any((self.root / Path(name).expanduser()).exists() for name in _names(location))

    def _log_once(self, message: str) -> None:
        if message not in self._reported:
            self._reported.add(message)
            log.warning("%s", message)

    def _reject_copies(self, parts: Sequence[_Part]) -> None:
        """Reject photos that are used for both training and evaluation.

        Raises:
            ValueError: if there are any; the message gives the first and the count.
        """
        if not self._training_if_found():
            return
        trained = [file for part in self._parts("train") for file in part.files()]
        copies = find_copies(trained, [file for part in parts for file in part.files()])
        if copies:
            raise ValueError(
                f"{len(copies)} photos are used for both training and evaluation; first: "
                f"{copies[0][0]} and {copies[0][1]} are the same photo; remove one of each pair"
            )

    def _entries(self, location: Table | None) -> list[_Entry]:
        """Read all tables of a location.

        Raises:
            ValueError: if no table is given.
        """
        assert location is not None
        names = _names(location)
        if not all(names) or not names:
            raise ValueError("images or masks are set without a table: set table as well")
        return [self._entry(name, location.images, location.masks) for name in names]

    def _entry(self, name: str, images: str | None, masks: str | None) -> _Entry:
        """Read a table or an export, or return it from memory.

        Raises:
            DatasetNotFoundError: if it is missing.
            ValueError: if its suffix is unknown, or its contents are invalid.
        """
        key, file = (name, images, masks), self.root / Path(name).expanduser()
        if key not in self._read:
            self._read[key] = _Entry(file, _share_phrases(self._read_splits(file, images, masks)))
        return self._read[key]

    def _read_splits(
        self, file: Path, images: str | None, masks: str | None
    ) -> Mapping[Split, Annotations]:
        rectangles, kind = self.boxes == "rectangles", file.suffix.lower()
        if file.is_dir() or (file.is_file() and kind in (".zip", ".yaml", ".yml")):
            if images is not None or masks is not None:
                raise ValueError(f"{file}: images and masks cannot be set for an export")
            if file.is_file() and kind != ".zip":
                return read_yolo(file, rectangles)
            return read_export(file, rectangles, self.ignore_label)
        if not file.is_file():
            raise DatasetNotFoundError(
                f"{file}: no such table; set --data.init_args.train.table to a CSV, JSONL or COCO "
                "JSON file, or to the folder of an export, below --data.init_args.root "
                "(docs/own_data.md)"
            )
        photos, regions = (
            file.parent if folder is None else self.root / Path(folder).expanduser()
            for folder in (images, masks)
        )
        if kind == ".json":
            return {"train": read_coco(file, photos, rectangles)}
        if kind in (".csv", ".jsonl"):
            return {"train": read_table(file, photos, regions, self.ignore_label)}
        raise ValueError(
            f"{file}: a table must end in .csv, .jsonl or .json (COCO's format), be the YAML file "
            "of a YOLO dataset, or be the folder of an export"
        )

    def _all_phrasings(self) -> Phrasings | None:
        """Return the phrasings of all classes; None if `phrases` is not set."""
        if self.phrases is None:
            return None
        if self._phrasings is None:
            given = read_phrasings(self.phrases, self.root)
            locations = [location for location in self.tables.values() if location is not None]
            found = [location for location in locations if self._exists(location)]
            entries = [entry for location in found for entry in self._entries(location)]
            tables = [table for entry in entries for table in entry.splits.values()]
            self._phrasings = complete_phrasings(given, tables, len(found) == len(locations))
            own = [name for name in self._phrasings if class_phrase(name) not in given]
            if own:
                log.warning(
                    "no phrases are set for %s: class names are used as phrases", ", ".join(own)
                )
        return self._phrasings

    def _name(self, table: Annotations) -> str:
        """Return the file of a table, relative to the root if it is below."""
        file = table.file
        return str(file.relative_to(self.root) if file.is_relative_to(self.root) else file)

    def _report(self, table: Annotations) -> None:
        """Report what a table skips and what its masks are made of, once."""
        self._report_skipped(self._name(table), table)
        if table.boxes:
            self._log_once(
                f"{table.file}: {table.boxes} boxes without masks are filled as rectangles"
            )

    def _report_skipped(self, name: str, table: Annotations) -> None:
        if table.skipped and name not in self.skipped:
            log.warning("%s: skipped %s", self.root / name, reasons(table.skipped))
            self.skipped[name] = table.skipped


def _names(location: Table | None) -> list[str]:
    """Return the names of the tables of a location."""
    if location is None:
        return []
    return [location.table] if isinstance(location.table, str) else location.table


def _share_phrases(splits: Mapping[Split, Annotations]) -> Mapping[Split, Annotations]:
    """Give all splits of an export the phrases that any of them annotates."""
    if len(splits) == 1:
        return splits
    every = {
        table.phrases[index]: None
        for table in splits.values()
        for index in np.unique(table.phrase).tolist()
    }
    found = dict[Split, Annotations]()
    for split, table in splits.items():
        own = [table.phrases[index] for index in range(len(table.phrases))]
        phrases = list(dict.fromkeys([*own, *every]))
        vocabulary = np.flatnonzero([phrase in every for phrase in phrases])
        found[split] = replace(table, phrases=Strings.pack(phrases), vocabulary=vocabulary)
    return found


def _whole(table: Annotations) -> _Part:
    return _Part(table, np.ones(len(table.photos), np.bool_))


def _with_copies(entries: Sequence[_Entry], chosen: Sequence[_Selection]) -> list[_Selection]:
    """Add the copies of chosen photos, so that none is left for training."""
    files = [entry.of("train").photo_files() for entry in entries]
    marked = [zip(own, mask.tolist(), strict=True) for own, mask in zip(files, chosen, strict=True)]
    every = [pair for own in marked for pair in own]
    used = [file for file, is_chosen in every if is_chosen]
    copies = find_copies(used, [file for file, is_chosen in every if not is_chosen])
    if copies:
        log.warning(
            "%d photos are copies of validation photos and are left out of training; first: %s",
            len(copies),
            copies[0][1],
        )
    validated = {*used, *(file for _, file in copies)}
    return [np.array([file in validated for file in own], np.bool_) for own in files]
