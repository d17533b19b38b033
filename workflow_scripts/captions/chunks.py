"""Helpers shared by tokenize.py and augment.py: process captions in chunks, write tokens in order.

The tokenizer is not imported at module level, because the main process does not need it.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workflow_scripts.captions.stored import TOKEN, record_type, records
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.common.pools import results
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data import overlay
from workflow_scripts.data.manifest import read_manifest, read_rows

if TYPE_CHECKING:
    from workflow_scripts.captions.tokens import Tokenizer

CHUNK = 2000  # captions per task
FEW = 2 * CHUNK  # captions that take less time than the start of a worker process
# The steps share the process from which workers are forked if they run one after the other.
_PRELOAD = ("workflow_scripts.captions.tokens", "workflow_scripts.captions.synonyms")
SHORTEST_CONTEXT = 3  # start token, one token of the caption, end token
BASE_HELP = "arrays of the manifest's base; if given, only rows that differ from it are written"


def read_captions(manifest: Path, context_length: int, overlaid: bool) -> pd.DataFrame:
    """Return ``key`` and ``caption`` of the rows of a manifest, indexed by row number.

    Args:
        manifest: The manifest.
        context_length: Tokens per caption.
        overlaid: Whether to return only the rows of an overlay whose caption differs from the
            base's; has no effect on a complete manifest.

    Raises:
        StepError: The file is not a manifest, or ``context_length`` is too small.
    """
    if context_length < SHORTEST_CONTEXT:
        raise StepError(
            f"--context-length must be at least {SHORTEST_CONTEXT} (start token, one token of the "
            f"caption, end token), got {context_length}"
        )
    if overlaid and overlay.base_of(manifest) is not None:
        return read_rows(manifest, overlay.own_rows(manifest, "caption"))[["key", "caption"]]
    return read_manifest(manifest, ["key", "caption"])


def in_chunks(captions: pd.DataFrame) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the keys and captions in chunks of ``CHUNK`` rows."""
    for start in range(0, len(captions), CHUNK):
        part = captions.iloc[start : start + CHUNK]
        yield part["key"].tolist(), part["caption"].tolist()


def pool_for(
    captions: pd.DataFrame, workers: int
) -> contextlib.AbstractContextManager[Executor | None]:
    """Return a pool of worker processes; None for few captions or a single worker."""
    if workers == 1 or len(captions) <= FEW:
        return contextlib.nullcontext()
    return worker_pool(workers, preload=_PRELOAD)


def in_order(
    pool: Executor | None, function: Callable[..., Any], tasks: Iterable[tuple], ahead: int
) -> Iterator[Any]:
    """Yield ``function(*task)`` for each task, in the order of the tasks.

    Without a pool, the function is called in this process. At most ``ahead`` tasks are submitted
    in advance, so that millions of captions are not copied at once.

    Raises:
        StepError: A process of the pool was killed.
    """
    if pool is None:
        yield from itertools.starmap(function, tasks)
        return
    try:
        yield from results(pool, function, tasks, ahead)
    except BrokenProcessPool as error:
        raise StepError(
            "a worker process was killed while processing captions, probably because of a lack of "
            "memory; increase the job's memory or use fewer workers"
        ) from error


@contextlib.contextmanager
def token_file(
    path: Path, captions: pd.DataFrame, context_length: int
) -> Iterator[Callable[[np.ndarray], object]]:
    """Write a token array atomically; yields a function that appends rows.

    Args:
        path: The array to write.
        captions: Result of :func:`read_captions`. If it has only some of the manifest's rows, the
            array of an overlay is written (see stored.py).
        context_length: Tokens per caption.
    """
    rows, done = captions.index.to_numpy(), 0
    complete = isinstance(captions.index, pd.RangeIndex)
    shape = (len(rows), context_length) if complete else (len(rows),)
    kind = TOKEN if complete else record_type(context_length)
    header = {
        "descr": np.lib.format.dtype_to_descr(kind),
        "fortran_order": False,
        "shape": shape,
    }

    def write(tokens: np.ndarray) -> None:
        nonlocal done
        numbers = rows[done : done + len(tokens)]
        done += len(tokens)
        file.write((tokens.astype(TOKEN) if complete else records(numbers, tokens)).tobytes())

    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield write
        file.flush()


def tokens_of(captions: Sequence[str], context_length: int) -> np.ndarray:
    """Return the tokens of captions, uint16 ``[captions, context_length]``."""
    return _tokenizer(context_length)(captions)


@functools.cache
def _tokenizer(context_length: int) -> "Tokenizer":
    from workflow_scripts.captions.tokens import Tokenizer  # noqa: PLC0415 - slow

    return Tokenizer(context_length)
