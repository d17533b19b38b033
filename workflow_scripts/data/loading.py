"""Load batches in worker processes that leave errors and signals to the main process."""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType

import torch
from torch.utils.data import DataLoader, Dataset

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.workers import use_own_temporary_folder

# Time from SIGTERM to a worker's exit, in which the trainer ends its step and saves a checkpoint.
_GRACE_SECONDS = 120
# Memory limit of all batches that the workers of one process have prefetched or are loading.
IN_FLIGHT_BYTES = 8 << 30
_AHEAD = 2  # batches that each worker prefetches, if they fit into IN_FLIGHT_BYTES


class Batches:
    """Iterates over batches that a dataset fetches as a whole (``__getitems__``).

    The dataset reports an error by returning a ``StepError`` in place of a batch, which is then
    raised here. If a worker raised it, the message would include the worker's traceback.

    Args:
        dataset: Returns the batch for a list of indices.
        indices: The lists of indices; restarted for each iteration.
        workers: Number of worker processes, which persist until :meth:`close`; 0 loads in the main
            process.
        device: Device that the batches are used on; batches are pinned if it is a GPU.
        batch_bytes: Size of a batch in bytes. The number of prefetched batches and, if need be, of
            workers is reduced so that all batches in flight fit into ``IN_FLIGHT_BYTES``.
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
            # Otherwise the loader would draw from the global generator.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        assert self._loader is not None  # before close
        return len(self._loader)

    def __iter__(self) -> Iterator:
        assert self._loader is not None  # before close
        for batch in self._loader:
            if isinstance(batch, StepError):
                # Raise a copy: raising `batch` itself would create a reference cycle with this
                # frame that keeps the workers alive.
                raise StepError(str(batch))
            yield batch

    def close(self) -> None:
        """Stop the workers. At interpreter exit this would take seconds per worker."""
        self._loader = None


def in_flight(workers: int, batch_bytes: int) -> tuple[int, int]:
    """Return the number of workers and of batches that each prefetches, within the memory limit."""
    room = IN_FLIGHT_BYTES // max(batch_bytes, 1)
    workers = min(workers, max(room, 1))
    return workers, min(max(room // max(workers, 1), 1), _AHEAD)


def share(rows: int, rank: int, size: int, batch_size: int) -> list[list[int]]:
    """Return the batches of rows that process ``rank`` of ``size`` processes."""
    mine = list(range(rank, rows, size))
    return [mine[i : i + batch_size] for i in range(0, len(mine), batch_size)]


def _as_is(batch: object) -> object:
    return batch


def _outlive_signals(_: int) -> None:
    """Make a worker survive the signals that announce the end of a run.

    Slurm signals all processes of a job and Ctrl-C all processes of a terminal. If workers died
    immediately, the trainer would fail in the middle of a step.
    """

    def end_later(number: int, frame: FrameType | None) -> None:
        signal.alarm(_GRACE_SECONDS)

    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, end_later)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
