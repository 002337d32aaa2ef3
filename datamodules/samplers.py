"""Which samples are seen when, and by which rank."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]
"""epoch and index of a sample"""


class TrainingSampler(Sampler[list[Key]]):
    """Whole batches of (epoch, index), shuffled anew every epoch, for a fixed number of steps.

    Position k of the endless stream of samples depends on the seed alone; step s of rank r takes
    its slice of the s-th global batch. So one rank with 2 B sees what two with B see together,
    and a resumed run starts where it stopped. The authors do not shuffle.

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
