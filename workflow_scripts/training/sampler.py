"""Assignment of rows to batches, determined by the seed, the epoch and the step alone."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator


class BatchSampler(Sampler):
    """The batches of an epoch for one of several processes.

    Global batch b of an epoch is ``permutation[b * B : (b + 1) * B]``; process r of W takes the
    r-th of W equal slices, so that global batches do not depend on W. An incomplete last batch is
    dropped.

    Iterating yields ``[(epoch, row), ...]``, one list per step, beginning at ``start_step``.

    Raises:
        StepError: The batch is larger than the data, or not divisible among the processes.
    """

    def __init__(self, rows: int, batch_size: int, seed: int, rank: int = 0, size: int = 1):
        if batch_size > rows:
            raise StepError(
                f"the batch of {batch_size} is larger than the training data of {rows} pairs; "
                "lower batch_size or use more pairs"
            )
        if batch_size % size:
            raise StepError(
                f"the global batch of {batch_size} cannot be divided evenly among {size} "
                "processes; change batch_size or the number of processes"
            )
        self.rows, self.batch_size, self.seed = rows, batch_size, seed
        self.rank, self.size = rank, size
        self.steps = rows // batch_size
        self.start(epoch=0, step=0)

    def start(self, epoch: int, step: int) -> None:
        """Set the epoch and the step within it at which the next iteration begins."""
        self.epoch, self.start_step = epoch, step
        order = generator(self.seed, "order", epoch).permutation(self.rows)
        self._batches = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)

    def global_rows(self, step: int) -> np.ndarray:
        """Return the rows of the global batch at a step of this epoch, int64 [batch_size]."""
        return self._batches[step]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        share = self.batch_size // self.size
        mine = slice(self.rank * share, (self.rank + 1) * share)
        for step in range(self.start_step, self.steps):
            yield [(self.epoch, row) for row in self._batches[step, mine].tolist()]

    def __len__(self) -> int:
        return self.steps - self.start_step
