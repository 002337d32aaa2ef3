"""Batch samplers for training and evaluation on one or more ranks."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]
"""epoch and index of a sample"""


class TrainingSampler(Sampler[list[Key]]):
    """Yields batches of (epoch, index) for a fixed number of steps, reshuffled every epoch.

    The endless stream of samples depends on the seed only. At step s, rank r uses its slice of the
    s-th global batch. One rank with batch size 2B therefore sees the same samples as two ranks with
    batch size B, and a resumed run continues where it stopped. The authors do not shuffle. See
    docs/deviations.md (shuffling).

    Args:
        size: number of samples in the dataset.
        batch_size: samples per step and rank.
        seed: seed for shuffling.
        steps: total number of steps of the run; the sampler's length.
        first_step: number of steps already done.
        rank: rank of this process.
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
        """Store the numbers."""
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.steps, self.first_step = steps, first_step
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Return the number of steps of the whole run.

        This includes the steps before a resume, because Lightning counts them too.
        """
        return self.steps

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield one batch per step."""
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
    """Yields every batch once; the batches are distributed over the ranks in turn.

    The batches are the same for any number of ranks. Lightning's default sampler would repeat
    samples until all ranks have the same number, so that metrics would count some samples twice.

    Args:
        batches: indices of the samples of each batch, see `in_batches`.
        rank: rank of this process.
        world_size: number of processes.
    """

    def __init__(
        self, batches: Sequence[Sequence[int]], rank: int = 0, world_size: int = 1
    ) -> None:
        """Select this rank's batches; a rank without samples gets one empty batch.

        Lightning skips evaluation on a rank without batches. The other ranks would then wait
        forever when metrics are synchronised.
        """
        self.batches = batches[rank::world_size] or [[]]

    def __len__(self) -> int:
        """Return this rank's number of batches."""
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        """Yield this rank's batches."""
        for batch in self.batches:
            yield [(0, sample) for sample in batch]


def in_batches(size: int, batch_size: int) -> list[range]:
    """Divide samples, in order, into batches; the last one may be smaller."""
    return [range(i, min(i + batch_size, size)) for i in range(0, size, batch_size)]
