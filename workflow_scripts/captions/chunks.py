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

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.data.manifest import read_manifest

if TYPE_CHECKING:
    from workflow_scripts.captions.tokens import Tokenizer

CHUNK = 2000  # captions of one task
TOKENIZER = "workflow_scripts.captions.tokens"
SHORTEST_CONTEXT = 3  # start, one token of the caption, end
_DTYPE = np.dtype("<u2")


def read_captions(manifest: Path, context_length: int) -> pd.DataFrame:
    """Return ``key`` and ``caption`` of a manifest's rows.

    Raises:
        StepError: It is no manifest, or ``context_length`` leaves no place for a caption.
    """
    if context_length < SHORTEST_CONTEXT:
        raise StepError(
            f"--context-length {context_length} leaves no place for a caption between the start's "
            f"and the end's token; it has to be at least {SHORTEST_CONTEXT}"
        )
    return read_manifest(manifest)[["key", "caption"]]


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
    path: Path, rows: int, context_length: int
) -> Iterator[Callable[[np.ndarray], object]]:
    """Yield a function that writes the next rows of an ``.npy`` file, from top to bottom.

    The file is uint16 ``[rows, context_length]``; it is there once all rows are written.
    """
    header = {"descr": _DTYPE.str, "fortran_order": False, "shape": (rows, context_length)}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        yield lambda tokens: file.write(tokens.astype(_DTYPE, copy=False).tobytes())
        file.flush()


def tokens_of(captions: Sequence[str], context_length: int) -> np.ndarray:
    """Return uint16 ``[captions, context_length]``, by this process's own tokenizer."""
    return _tokenizer(context_length)(captions)


@functools.cache
def _tokenizer(context_length: int) -> "Tokenizer":
    from workflow_scripts.captions.tokens import Tokenizer  # noqa: PLC0415 (see above)

    return Tokenizer(context_length)
