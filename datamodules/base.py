"""Loaders that all datamodules share: what is seen when, by which rank, and how it is read."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence, Sized
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

from clipseg_pl.sample import Batch, Classes, Sample, collate
from datamodules.toy.world import toy_root, write_toy_world

Split = Literal["train", "val", "test"]
Key = tuple[int, int]

TOY = "toy"


class TrainingSampler(Sampler[list[Key]]):
    """Whole batches of (epoch, index), shuffled anew every epoch, for a fixed number of steps.

    Position k of the endless stream of samples depends on the seed alone; step s of rank r takes
    its slice of the s-th global batch. So one rank with 2 B sees what two with B see together,
    and a resumed run starts where it stopped. The authors do not shuffle (trap T15).

    Args:
        size: number of samples in the dataset.
        batch_size: prompts of one rank's step.
        seed: of the shuffling.
        steps: of the whole run; its length.
        first_step: steps already taken.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int,
        steps: int,
        first_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Keep the numbers."""
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.steps, self.first_step = steps, first_step
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Steps of the whole run, also when some are already taken: Lightning counts on."""
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield one batch a step."""
        current, order = -1, np.empty(0, np.int64)
        for step in range(self.first_step, self.steps):
            first = (step * self.world_size + self.rank) * self.batch_size
            batch = []
            for position in range(first, first + self.batch_size):
                epoch, place = divmod(position, self.size)
                if epoch != current:
                    order = np.random.default_rng([self.seed, epoch]).permutation(self.size)
                    current = epoch
                batch.append((epoch, int(order[place])))
            yield batch


class EvaluationSampler(Sampler[list[Key]]):
    """Every sample once, in order: the same batches for any number of ranks, dealt in turn.

    Lightning's own sampler repeats samples until the ranks have equally many, and counts them
    twice.

    Args:
        size: number of samples in the dataset.
        batch_size: samples of a batch; the last one may be smaller.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """Keep the numbers."""
        self.size, self.batch_size = size, batch_size
        self.starts = range(rank * batch_size, size, world_size * batch_size)

    def __len__(self) -> int:
        """Batches of this rank; a rank without any gets one empty one.

        Lightning skips the evaluation of a rank without batches, and the others would wait for
        its share of the sums for ever.
        """
        return max(1, len(self.starts))

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this rank's batches."""
        if not self.starts:
            yield []
        for start in self.starts:
            yield [(0, i) for i in range(start, min(start + self.batch_size, self.size))]


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
            ValueError: for a batch or an image of no size.
        """
        super().__init__()
        if batch_size < 1 or image_size < 1:
            raise ValueError(f"batch_size {batch_size} and image_size {image_size} must be >= 1")
        self.toy = root == TOY
        self.root = toy_root() if self.toy else Path(root).expanduser()
        self.image_size, self.batch_size = image_size, batch_size
        self.num_workers, self.seed = num_workers, seed
        self.datasets: dict[Split, Dataset[Sample]] = {}
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
        (`pascal_classes`); for affordances these are the words that no phrase holds.
        """
        return []

    @abstractmethod
    def build(self, split: Split) -> Dataset[Sample]:
        """Build the dataset of a split; building it twice must cost little."""

    def setup(self, stage: str) -> None:
        """Build what the stage ("fit", "validate", "test", "predict") reads.

        Raises:
            ValueError: `predict` on parts of photos.
        """
        if stage == "predict" and not self.whole_photos:
            raise ValueError("predict needs whole photos; this benchmark crops or pads them")
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in splits.get(stage, ("test",)):
            if split not in self.datasets:
                self.datasets[split] = self.build(split)

    def prepare_data(self) -> None:
        """Build the toy world, caches and indexes on one process while the others wait."""
        if self.toy:
            write_toy_world(self.root)
        state = self.trainer.state.fn if self.trainer else None
        self.setup(str(state.value) if state else "fit")

    def sizes(self) -> dict[str, int]:
        """Number of samples in each split built, by its name on disk."""
        return {self.split_name(split): _size(data) for split, data in self.datasets.items()}

    def split_name(self, split: Split) -> str:
        """Name on disk of a split, where it has another there."""
        return split

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches for the steps that are left of the run."""
        trainer, dataset = self.trainer, self.datasets["train"]
        assert trainer is not None
        if trainer.max_steps < 0:
            raise ValueError("training is counted in steps: set --trainer.max_steps")
        accumulate = trainer.accumulate_grad_batches
        sampler = TrainingSampler(
            _size(dataset),
            self.batch_size,
            self.seed,
            trainer.max_steps * accumulate,
            trainer.global_step * accumulate,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(dataset, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, every sample once over all ranks."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """The test split, every sample once over all ranks."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """The test split, every sample once over all ranks."""
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        trainer, dataset = self.trainer, self.datasets[split]
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        sampler = EvaluationSampler(_size(dataset), self.batch_size, rank, world_size)
        return self._loader(dataset, sampler)

    def _loader(
        self,
        dataset: Dataset[Sample],
        sampler: Sampler[list[Key]],
        collate: Callable[[Sequence[Sample]], Batch] = collate,
    ) -> DataLoader[Batch]:
        return DataLoader(
            dataset,  # type: ignore[arg-type]  # collate turns samples into a batch
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
