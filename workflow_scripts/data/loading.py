"""Batches by worker processes, which leave errors and signals to the process they serve."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType

import torch
from torch.utils.data import DataLoader, Dataset

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.workers import use_own_temporary_folder

# How long a worker outlives a SIGTERM, for the trainer to end its step and write a checkpoint.
_GRACE_SECONDS = 120
# Batches that workers have loaded or are loading, of one process.
IN_FLIGHT_BYTES = 8 << 30
_AHEAD = 2  # batches of each worker, if there is memory for them


class Batches:
    """Iterates over batches that a dataset fetches whole, by ``__getitems__``.

    A dataset returns a ``StepError`` in place of a batch to have it raised here: raised in a
    worker, it would arrive wrapped in the worker's traceback.

    Args:
        dataset: Fetches the batch of a list of indices.
        indices: The lists of indices, iterated anew each time.
        workers: Processes, which wait for the next iteration until :meth:`close`; 0 loads in
            this process.
        device: Where batches go; on the way to a GPU they pass through page-locked memory.
        batch_bytes: Size of a batch. Workers load as many ahead as fit into ``IN_FLIGHT_BYTES``,
            and there are fewer of them if one of each does not fit.
    """

    def __init__(
        self,
        dataset: Dataset,
        indices: Iterable[list],
        workers: int,
        device: torch.device,
        batch_bytes: int = 0,
    ):
        workers, ahead = in_flight(workers, batch_bytes)
        if workers:
            use_own_temporary_folder()
        self._loader: DataLoader | None = DataLoader(
            dataset,
            batch_sampler=indices,
            collate_fn=_as_is,
            num_workers=workers,
            prefetch_factor=ahead if workers else None,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            multiprocessing_context="fork" if workers else None,
            worker_init_fn=_outlive_signals,
            # Of its own, because the loader draws from the global one otherwise.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        assert self._loader is not None  # before close
        return len(self._loader)

    def __iter__(self) -> Iterator:
        assert self._loader is not None  # before close
        for batch in self._loader:
            if isinstance(batch, StepError):
                # A new one: what a frame holds and raises is a cycle that keeps workers alive.
                raise StepError(str(batch))
            yield batch

    def close(self) -> None:
        """End the workers. Left to the interpreter's exit, each of them would take seconds."""
        self._loader = None


def in_flight(workers: int, batch_bytes: int) -> tuple[int, int]:
    """Return how many workers there may be, and how many batches each loads ahead."""
    room = IN_FLIGHT_BYTES // max(batch_bytes, 1)
    workers = min(workers, max(room, 1))
    return workers, min(max(room // max(workers, 1), 1), _AHEAD)


def share(rows: int, rank: int, size: int, batch_size: int) -> list[list[int]]:
    """Return the batches of one process out of ``size`` that share the rows between them."""
    mine = list(range(rank, rows, size))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]


def _as_is(batch: object) -> object:
    return batch


def _outlive_signals(_: int) -> None:
    """Do not die at once when a whole process group is told to end.

    Slurm signals every process of a job, and Ctrl-C every process of a terminal. A worker's death
    would raise an error in the trainer at any place, in the middle of a step too.
    """

    def end_later(number: int, frame: FrameType | None) -> None:
        signal.alarm(_GRACE_SECONDS)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, end_later)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
