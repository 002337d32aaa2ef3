"""Base class of the datamodules: builds the datasets of a stage and their data loaders."""

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Dataset, Sampler

from clipseg_pl.sample import Batch, Classes, Sample, collate
from clipseg_pl.weights.places import TOY
from datamodules.datasets.annotations import Split as Split
from datamodules.datasets.annotations import reasons
from datamodules.datasets.exclusion import EVALUATED_PHOTOS, photos_of
from datamodules.datasets.phrase_table import PhraseTable, Rows
from datamodules.samplers import EvaluationSampler, Key, TrainingSampler, in_batches
from datamodules.toy.world import toy_root, write_toy_world

NOT_WHOLE = "predict needs whole photos, but this benchmark crops or pads them"
_Table = TypeVar("_Table", bound=PhraseTable)


class BaseDataModule(LightningDataModule):
    """Data loaders for the datasets that a subclass builds.

    Args:
        root: folder that contains the dataset folders (VGPhraseCut_v0, VOC2012, ...); or "toy" for
            the built-in toy world, which is written to the cache on first use.
        image_size: side of the square samples in pixels, a multiple of the backbone's patch size.
        batch_size: query images per step and device.
        num_workers: data worker processes; 0 loads the samples in the main process.
        seed: seed for shuffling and for all random choices in a sample.
        without_photos_of: benchmarks whose evaluated photos are left out of training, see
            `leave_out_photos`.
        phrases_per_image: maximum number of phrases about a photo per training sample.
    """

    def __init__(
        self,
        root: str,
        image_size: int,
        batch_size: int,
        num_workers: int,
        seed: int,
        without_photos_of: Sequence[str] | None = None,
        phrases_per_image: int = 1,
    ) -> None:
        """Store the settings; no file is read before `prepare_data`.

        Raises:
            ValueError: if `batch_size`, `image_size` or `phrases_per_image` is below 1,
                `num_workers` is below 0, or a benchmark in `without_photos_of` is unknown.
        """
        super().__init__()
        if batch_size < 1 or image_size < 1:
            raise ValueError(f"batch_size {batch_size} and image_size {image_size} must be >= 1")
        if num_workers < 0:
            raise ValueError(f"num_workers must be >= 0, not {num_workers}")
        if phrases_per_image < 1:
            raise ValueError(f"phrases_per_image must be >= 1, not {phrases_per_image}")
        self.without_photos_of = without_photos_of or ()
        unknown = set(self.without_photos_of) - EVALUATED_PHOTOS.keys()
        if unknown:
            raise ValueError(
                f"without_photos_of: unknown benchmark {', '.join(sorted(unknown))}; choose from "
                f"{', '.join(EVALUATED_PHOTOS)}"
            )
        self.photos_left_out: int | None = None
        """number of training photos left out by `without_photos_of`; None without it"""
        self.toy = root == TOY
        self.root = toy_root() if self.toy else Path(root).expanduser()
        self.image_size, self.batch_size = image_size, batch_size
        self.num_workers, self.seed = num_workers, seed
        self.phrases_per_image = phrases_per_image
        self.datasets: dict[Split, Dataset[Sample]] = {}
        self.listed: dict[str, str] = {}
        """split name -> annotation file and its number of entries, for messages; set by `build`"""
        self.skipped: dict[str, dict[str, int]] = {}
        """split or table -> reason -> number of skipped annotations, photos or classes; filled by
        `build` and `setup`"""
        self.held_out: Sequence[str] = ()
        """classes or words that models must not be trained on if evaluated here, see `excluded`"""
        self.classes = Classes()
        """names of the class ids in the samples"""
        self.no_predict = ""
        """why `predict` cannot write masks of the photos; empty if it can"""

    @property
    def excluded(self) -> list[str]:
        """Names of the classes or words excluded from training; empty by default.

        They are stored in checkpoints as plain strings. A benchmark on held-out classes can thus
        reject a checkpoint that was trained on them. Pascal classes use VOC's names
        (`datasets.pascal_5i`). If affordances ("sit on") are held out, the list contains words.
        """
        return []

    @abstractmethod
    def build(self, split: Split) -> Dataset[Sample]:
        """Build the dataset of a split; a second call must be cheap."""

    def setup(self, stage: str) -> None:
        """Build the datasets of a stage ("fit", "validate", "test" or "predict").

        Raises:
            ValueError: if the stage is "predict" and `no_predict` is set, or if a split has no
                usable sample.
        """
        if stage == "predict" and self.no_predict:
            raise ValueError(self.no_predict)
        if self.toy:
            write_toy_world(self.root)
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in splits.get(stage, ("test",)):
            if split not in self.datasets:
                self.datasets[split] = self._build_used(split)
        if stage == "fit" and self.trainer is not None:
            self._count_steps(self.trainer)

    def _count_steps(self, trainer: Trainer) -> None:
        """Replace the trainer's limit in epochs, if it has one, by the same limit in steps.

        Lightning sees the run as a single epoch, see `TrainingSampler`.
        """
        epochs = trainer.max_epochs
        if epochs is None or epochs < 0:
            return
        size = _size(self._dataset("train"))
        per_step = self.batch_size * trainer.world_size * trainer.accumulate_grad_batches
        steps, limited = -(-epochs * size // per_step), ""
        if 0 < trainer.max_steps < steps:
            steps, limited = trainer.max_steps, ", limited by max_steps"
        trainer.fit_loop.max_epochs, trainer.fit_loop.epoch_loop.max_steps = -1, steps
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rank_zero_info(
                f"{epochs} {'epoch' if epochs == 1 else 'epochs'} of {size} samples: {steps} steps "
                f"of {per_step} samples{limited}"
            )

    def _build_used(self, split: Split) -> Dataset[Sample]:
        """Build a split, record its skipped samples, and raise ValueError if none is left."""
        dataset, name = self.build(split), self.split_name(split)
        skipped: dict[str, int] = getattr(dataset, "skipped", {})
        if skipped:
            self.skipped[name] = self.skipped.get(name, {}) | skipped
        if not _size(dataset):
            purpose = "train on" if split == "train" else "evaluate"
            counts = reasons(self.skipped.get(name, {}))
            empty = f"the {name} split in {self.root} has no usable samples"
            details = [empty, self.listed.get(name), counts and f"skipped: {counts}"]
            raise ValueError(f"nothing to {purpose}: {'; '.join(filter(None, details))}")
        return dataset

    def leave_out_photos(self, table: _Table) -> _Table:
        """Leave the photos of the benchmarks in `without_photos_of` out of the training split.

        Photos are compared by their COCO ids. Photos without an id are kept.
        """
        if not self.without_photos_of:
            return table
        ids = np.empty(0, np.int64) if table.coco_ids is None else table.coco_ids
        shared = np.isin(ids, photos_of(self.without_photos_of, self.root))
        self.photos_left_out = len(np.unique(ids[shared]))
        named = ", ".join(self.without_photos_of)
        of_split = self.skipped.setdefault(self.split_name("train"), {})
        of_split[f"on photos of {named}"] = int(shared.sum())
        rank_zero_info(f"Left {self.photos_left_out:,} photos of {named} out of training")
        return table.select(~shared) if shared.any() else table

    def coco_ids(self, split: Split) -> Rows | None:
        """Return the COCO id of the photo of each sample of a split.

        It is the attribute `coco_ids` of the dataset, if the dataset has one.

        Returns:
            (samples,) int64, -1 for photos that are not COCO's; None if no photo is COCO's or the
            split is not set up.
        """
        ids: Rows | None = getattr(self.datasets.get(split), "coco_ids", None)
        return None if ids is None or not (ids >= 0).any() else ids

    def prepare_data(self) -> None:
        """Build the toy world, caches and indexes in one process while the others wait."""
        state = self.trainer.state.fn if self.trainer else None
        self.setup(str(state.value) if state else "fit")

    def sizes(self) -> dict[str, int]:
        """Return the number of samples of each split that is set up, by its name on disk."""
        return {self.split_name(split): _size(data) for split, data in self.datasets.items()}

    def summary(self) -> dict[str, Any]:
        """Return counts of the data for reports; empty by default."""
        return {}

    def split_name(self, split: Split) -> str:
        """Return the split's name on disk; override if it differs from `split`."""
        return split

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training batches of all remaining steps, or of one epoch without a Trainer.

        If neither max_steps nor max_epochs of a Trainer is set, lightning limits it to 1,000
        epochs.

        Raises:
            ValueError: if the Trainer has no limit in steps or epochs, or has reached it.
            RuntimeError: if `setup` was not called.
        """
        trainer, size = self.trainer, _size(self._dataset("train"))
        if trainer is None:
            steps, first_step = -(-size // self.batch_size), 0
        elif trainer.max_steps < 0:
            raise ValueError("the run has no end: set --trainer.max_steps or --trainer.max_epochs")
        elif trainer.global_step >= trainer.max_steps:
            raise ValueError(
                f"the run has already taken {trainer.global_step} of {trainer.max_steps} steps: "
                "increase --trainer.max_steps or --trainer.max_epochs to continue training"
            )
        else:
            accumulate = trainer.accumulate_grad_batches
            steps, first_step = trainer.max_steps * accumulate, trainer.global_step * accumulate
        sampler = TrainingSampler(
            size, self.batch_size, self.seed, steps, first_step, *self._rank_and_world_size()
        )
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the validation batches; every sample occurs once over all ranks."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the test batches; every sample occurs once over all ranks."""
        return self._evaluation_loader("test")

    predict_dataloader = test_dataloader

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        batches = in_batches(_size(self._dataset(split)), self.batch_size)
        sampler = EvaluationSampler(batches, *self._rank_and_world_size())
        return self._loader(split, sampler)

    def _rank_and_world_size(self) -> tuple[int, int]:
        """Return the Trainer's rank and world size; (0, 1) without a Trainer."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def _dataset(self, split: Split) -> Dataset[Sample]:
        """Return the dataset of a split.

        Raises:
            RuntimeError: if it is not set up; the message names the stage to set up.
        """
        if split not in self.datasets:
            stage = {"train": "fit", "val": "validate", "test": "test"}[split]
            raise RuntimeError(
                f'the {self.split_name(split)} split is not set up: call setup("{stage}") before '
                "requesting its data loader"
            )
        return self.datasets[split]

    def _loader(
        self,
        split: Split,
        sampler: Sampler[list[Key]],
        collate: Callable[[Sequence[Sample]], Batch] = collate,
    ) -> DataLoader[Batch]:
        dataset, ids = self._dataset(split), self.coco_ids(split)
        return DataLoader(
            dataset if ids is None else _WithIds(dataset, ids),  # type: ignore[arg-type]  # collate
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_start_worker,
        )


class _WithIds(Dataset[Sample]):
    """Samples of a dataset with the COCO ids of their photos, indexed by (epoch, sample)."""

    def __init__(self, dataset: Dataset[Sample], ids: Rows) -> None:
        self.dataset, self.ids = dataset, ids
        self.photo_name: Callable[[int], str] | None = getattr(dataset, "photo_name", None)

    def __getitem__(self, key: Key) -> Sample:
        return {**self.dataset[key], "coco_id": int(self.ids[key[1]])}


def _size(dataset: Dataset[Sample]) -> int:
    assert isinstance(dataset, Sized)
    return len(dataset)


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # the workers already run in parallel
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # only the main process handles signals sent to the whole process group
