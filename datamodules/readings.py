"""What workers are reading, so that it is known when one of them dies."""

import os
from collections.abc import Collection

import torch
from torch.utils.data import Dataset, get_worker_info

from clipseg_pl.sample import Sample
from datamodules.samplers import Key


class Readings(Dataset[Sample]):
    """A dataset whose workers note what they read.

    A worker that is killed, for want of memory most often, says nothing itself; torch knows the
    number of its process, or finds what it was sending cut short.

    Args:
        dataset: indexed by (epoch, index); may say what a sample is about by `name(index)`.
        split: name of the dataset in messages.
        workers: number of processes that will read it.
    """

    def __init__(self, dataset: Dataset[Sample], split: str, workers: int) -> None:
        """Share a note for each worker with all of them."""
        self.dataset, self.split = dataset, split
        notes = torch.zeros(workers, 3, dtype=torch.long)  # process, epoch, index
        self._notes = notes.share_memory_()  # type: ignore[no-untyped-call]

    def __getitem__(self, key: Key) -> Sample:
        """Make a sample, noting it first."""
        worker = get_worker_info()
        if worker is not None:
            self._notes[worker.id] = torch.tensor([os.getpid(), *key])
        return self.dataset[key]

    def of_the_dead(self, alive: Collection[int | None]) -> list[str]:
        """What those workers read last whose processes are not among those alive."""
        return [
            f"{self._name(index)} ({self.split}, epoch {epoch})"
            for process, epoch, index in self._notes.tolist()
            if process and process not in alive
        ]

    def _name(self, index: int) -> str:
        name = getattr(self.dataset, "name", None)
        return str(name(index)) if name else f"sample {index}"
