"""What tokenizing and augmenting share: captions dealt out in chunks, tokens written in order.

Nothing heavy is imported here: the process that deals out the work needs none of it.
"""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workflow_scripts.captions.stored import TOKEN, record_type, records
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.data import overlay
from workflow_scripts.data.manifest import read_manifest, read_rows

if TYPE_CHECKING:
    from workflow_scripts.captions.tokens import Tokenizer

CHUNK = 2000  # captions of one task
TOKENIZER = "workflow_scripts.captions.tokens"
SHORTEST_CONTEXT = 3  # start, one token of the caption, end
OF_BASE = "arrays of the manifest's base, if only what differs from them is to be made"


def read_captions(manifest: Path, context_length: int, overlaid: bool) -> pd.DataFrame:
    """Return ``key`` and ``caption`` of a manifest's rows, with the rows' numbers as the index.

    Args:
        manifest: The manifest.
        context_length: Tokens of a caption.
        overlaid: If it is an overlay, return only the rows whose caption differs from the base's.

    Raises:
        StepError: It is no manifest, or ``context_length`` leaves no place for a caption.
    """
    if context_length < SHORTEST_CONTEXT:
        raise StepError(
            f"--context-length {context_length} leaves no place for a caption between the start's "
            f"and the end's token; it has to be at least {SHORTEST_CONTEXT}"
        )
    if overlaid and overlay.base_of(manifest) is not None:
        return read_rows(manifest, overlay.own_rows(manifest, "caption"))[["key", "caption"]]
    return read_manifest(manifest, ["key", "caption"])


def in_chunks(captions: pd.DataFrame) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the keys and the captions of ``CHUNK`` rows at a time."""
    for start in range(0, len(captions), CHUNK):
        part = captions.iloc[start : start + CHUNK]
        yield part["key"].tolist(), part["caption"].tolist()


def in_order(
    pool: Executor, function: Callable[..., Any], tasks: Iterable[tuple], ahead: int
) -> Iterator[Any]:
    """Yield ``function(*task)`` of each task, in the tasks' order.

    Unlike ``pool.map``, it is at most ``ahead`` tasks ahead of who asks for the results:
    millions of captions are not copied at once.

    Raises:
        StepError: A process of the pool was killed.
    """
    waiting: deque[Future] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, *task))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise StepError(
            "a process that worked on the captions was ended from outside, most likely for lack of "
            "memory; give the job more memory or fewer threads"
        ) from error


@contextlib.contextmanager
def token_file(
    path: Path, captions: pd.DataFrame, context_length: int
) -> Iterator[Callable[[np.ndarray], object]]:
    """Yield a function that writes the next rows of an array, from top to bottom.

    The file is there once all rows are written. It is complete if ``captions``, as
    :func:`read_captions` returns them, are; otherwise it is an overlay's (see stored.py).
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
        here = rows[done : done + len(tokens)]
        done += len(tokens)
        file.write((tokens.astype(TOKEN) if complete else records(here, tokens)).tobytes())

    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield write
        file.flush()


def tokens_of(captions: Sequence[str], context_length: int) -> np.ndarray:
    """Return uint16 ``[captions, context_length]``, by this process's own tokenizer."""
    return _tokenizer(context_length)(captions)


@functools.cache
def _tokenizer(context_length: int) -> "Tokenizer":
    from workflow_scripts.captions.tokens import Tokenizer  # noqa: PLC0415 (see above)

    return Tokenizer(context_length)
