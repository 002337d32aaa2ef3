"""Loaders that all datamodules share: what a stage builds, and how it is read."""

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Literal

import cv2
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from clipseg_pl.sample import Batch, Classes, Sample, collate
from clipseg_pl.weights.places import TOY
from datamodules.datasets.annotations import reasons
from datamodules.samplers import EvaluationSampler, Key, TrainingSampler
from datamodules.toy.world import toy_root, write_toy_world

Split = Literal["train", "val", "test"]


class BaseDataModule(LightningDataModule):
    """Loaders over the datasets that a subclass builds.

    Args:
        root: one folder that holds the datasets' own folders (VGPhraseCut_v0, VOC2012, ...); or
            "toy", the drawn miniature of them, which is written into the cache on first use.
        image_size: side of the samples in pixels, a multiple of the backbone's patch.
        batch_size: query images a step and device.
        num_workers: processes that read and prepare samples; 0 does it in the main process.
        seed: of the shuffling and of everything drawn for a sample.
    """

    def __init__(
        self, root: str, image_size: int, batch_size: int, num_workers: int, seed: int
    ) -> None:
        """Keep the settings; nothing is read before `prepare_data`.

        Raises:
            ValueError: for a batch or an image of no size, or a negative number of workers.
        """
        super().__init__()
        if batch_size < 1 or image_size < 1:
            raise ValueError(f"batch_size {batch_size} and image_size {image_size} must be >= 1")
        if num_workers < 0:
            raise ValueError(f"num_workers must be >= 0, not {num_workers}")
        self.toy = root == TOY
        self.root = toy_root() if self.toy else Path(root).expanduser()
        self.image_size, self.batch_size = image_size, batch_size
        self.num_workers, self.seed = num_workers, seed
        self.datasets: dict[Split, Dataset[Sample]] = {}
        self.listed: dict[str, str] = {}
        """which file lists what of each split, and how much, for messages; `build` fills it"""
        self.skipped: dict[str, dict[str, int]] = {}
        """annotations left out of each split, by reason; `build` may fill it"""
        self.held_out: Sequence[str] = ()
        """what a benchmark holds out of its models' training, by the names of `excluded`"""
        self.classes = Classes()
        """what the class ids of samples stand for"""
        self.whole_photos = True
        """whether queries are whole photos, squashed, so that masks can be brought to their size"""

    @property
    def excluded(self) -> list[str]:
        """What training was to leave out, by name: nothing, unless a datamodule says otherwise.

        Plain strings, to be kept in checkpoints: a benchmark on held-out classes can refuse a
        model whose training did not leave them out. Pascal's classes go by VOC's names
        (`datasets.pascal_5i`); for affordances these are the words that no phrase holds.
        """
        return []

    @abstractmethod
    def build(self, split: Split) -> Dataset[Sample]:
        """Build the dataset of a split; building it twice must cost little."""

    def setup(self, stage: str) -> None:
        """Build what the stage ("fit", "validate", "test", "predict") reads.

        Raises:
            ValueError: `predict` on parts of photos; a split without a usable sample.
        """
        if stage == "predict" and not self.whole_photos:
            raise ValueError("predict needs whole photos; this benchmark crops or pads them")
        if self.toy:
            write_toy_world(self.root)
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in splits.get(stage, ("test",)):
            if split not in self.datasets:
                self.datasets[split] = self._build_used(split)

    def _build_used(self, split: Split) -> Dataset[Sample]:
        """Build a split, note what its dataset leaves out, and refuse it if nothing is left."""
        dataset, name = self.build(split), self.split_name(split)
        left_out: dict[str, int] = getattr(dataset, "skipped", {})
        if left_out:
            self.skipped[name] = self.skipped.get(name, {}) | left_out
        if not _size(dataset):
            purpose = "train on" if split == "train" else "evaluate"
            skipped = reasons(self.skipped.get(name, {}))
            empty = f"the {name} split below {self.root} has no usable samples"
            found = [empty, self.listed.get(name), skipped and f"skipped: {skipped}"]
            raise ValueError(f"nothing to {purpose}: {'; '.join(filter(None, found))}")
        return dataset

    def prepare_data(self) -> None:
        """Build the toy world, caches and indexes on one process while the others wait."""
        state = self.trainer.state.fn if self.trainer else None
        self.setup(str(state.value) if state else "fit")

    def sizes(self) -> dict[str, int]:
        """Number of samples in each split built, by its name on disk."""
        return {self.split_name(split): _size(data) for split, data in self.datasets.items()}

    def split_name(self, split: Split) -> str:
        """Name on disk of a split, where it has another there."""
        return split

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches for the steps that are left of the run; without a Trainer those of one epoch.

        Raises:
            ValueError: if the Trainer has no `max_steps`.
            RuntimeError: before `setup`.
        """
        trainer, size = self.trainer, _size(self._dataset("train"))
        if trainer is None:
            steps, first_step = -(-size // self.batch_size), 0
        elif trainer.max_steps < 0:
            raise ValueError("training is counted in steps: set --trainer.max_steps")
        else:
            accumulate = trainer.accumulate_grad_batches
            steps, first_step = trainer.max_steps * accumulate, trainer.global_step * accumulate
        sampler = TrainingSampler(
            size, self.batch_size, self.seed, steps, first_step, *self._rank_and_world_size()
        )
        return self._loader("train", sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, every sample once over all ranks."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split, every sample once over all ranks."""
        return self._evaluation_loader("test")

    predict_dataloader = test_dataloader

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        size = _size(self._dataset(split))
        sampler = EvaluationSampler(size, self.batch_size, *self._rank_and_world_size())
        return self._loader(split, sampler)

    def _rank_and_world_size(self) -> tuple[int, int]:
        """Of the Trainer; without one there is a single process."""
        trainer = self.trainer
        return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)

    def _dataset(self, split: Split) -> Dataset[Sample]:
        """What `setup` has built of a split.

        Raises:
            RuntimeError: if it has not, saying which stage to set up.
        """
        if split not in self.datasets:
            stage = {"train": "fit", "val": "validate", "test": "test"}[split]
            raise RuntimeError(
                f'the {self.split_name(split)} split is not set up: call setup("{stage}") before '
                "its loader is asked for"
            )
        return self.datasets[split]

    def _loader(
        self,
        split: Split,
        sampler: Sampler[list[Key]],
        collate: Callable[[Sequence[Sample]], Batch] = collate,
    ) -> DataLoader[Batch]:
        return DataLoader(
            self._dataset(split),  # type: ignore[arg-type]  # collate turns samples into a batch
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            worker_init_fn=_start_worker,
        )


def _size(dataset: Dataset[Sample]) -> int:
    assert isinstance(dataset, Sized)
    return len(dataset)


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # workers are the parallelism
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # signals to all processes of a run are the first one's to answer
