"""Token arrays of the pairs of a manifest, memory-mapped.

A complete array is an ``.npy`` file of uint16 ``[rows, context length]``. Where a manifest is an
overlay (see data/overlay.py), so are its arrays: an ``.npy`` file of records of

    row       int64: a row whose caption differs from the base's, ascending
    tokens    uint16 [context length]: its tokens

and the other rows are those of the base's array. Both captions and augmented captions allow it,
because what becomes of a caption depends on the seed, the key and the caption, not on its row.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.overlay import file_of_base, rows_of_base

TOKEN = np.dtype("<u2")


def record_type(context_length: int) -> np.dtype:
    """Return the type of the records of an overlay's array."""
    return np.dtype([("row", "<i8"), ("tokens", TOKEN, (context_length,))])


def records(rows: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the records of an overlay's array.

    Args:
        rows: int64 ``[n]``.
        tokens: uint16 ``[n, context length]``.
    """
    result: np.ndarray = np.empty(len(rows), record_type(tokens.shape[1]))
    result["row"], result["tokens"] = rows, tokens
    return result


class StoredTokens:
    """The tokens of a manifest's captions, by rows.

    Args:
        path: The array.
        manifest: The manifest.
        rows: Number of its rows.
        context_length: Length of the model's text input.

    Raises:
        StepError: An array is missing, broken or of another manifest or length.
    """

    def __init__(self, path: str | Path, manifest: str | Path, rows: int, context_length: int):
        own, self._rows = _load(path), None
        below = array_of_base(path, manifest)
        if below is None:
            self._base, own = own, np.empty(0, record_type(context_length))
        else:
            self._base, self._rows = _load(below), rows_of_base(manifest)
        self._own_rows, self._own = np.array(own["row"]), own["tokens"]
        there = len(self._base)
        if self._rows is not None and (self._rows < there).all():
            there = len(self._rows)
        if there != rows:
            raise StepError(f"{path} has {there} rows, but the manifest has {rows}")
        for array in (self._base, self._own):
            if array.dtype != TOKEN or array.ndim != 2:
                raise StepError(
                    f"{path} holds {array.dtype} {array.shape}, not uint16 [rows, context]"
                )
            if array.shape[1] != context_length:
                raise StepError(
                    f"{path} has {array.shape[1]} tokens a caption, but the model takes "
                    f"{context_length}"
                )

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return uint16 ``[rows, context length]``."""
        rows = np.asarray(rows)
        tokens = self._base[rows if self._rows is None else self._rows[rows]]
        if len(self._own_rows):
            places = np.searchsorted(self._own_rows, rows).clip(max=len(self._own_rows) - 1)
            own = self._own_rows[places] == rows
            tokens[own] = self._own[places[own]]
        return tokens


def is_overlay(path: str | Path) -> bool:
    """Return whether an array is an overlay's."""
    return _load(path).dtype.names is not None


def array_of_base(path: str | Path, manifest: str | Path) -> Path | None:
    """Return the array that an overlay's array is laid over, None if it is complete."""
    return file_of_base(path, manifest) if is_overlay(path) else None


def _load(path: str | Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StepError(f"the tokens {path} cannot be read: {error}") from error
