"""Memory-mapped token arrays of the pairs of a manifest.

A complete array is an ``.npy`` file of uint16 ``[rows, context length]``. If the manifest is an
overlay (see data/overlay.py), its array is an ``.npy`` file of records with

    row       int64, ascending: a row whose caption differs from the base's
    tokens    uint16 [context length]: its tokens

and all other rows are read from the base's array. This holds for plain and augmented captions,
because the result depends on the seed, the key and the caption, but not on the row number.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workflow_scripts.common.errors import StepError
from workflow_scripts.data.overlay import file_of_base, rows_of_base

TOKEN = np.dtype("<u2")


def record_type(context_length: int) -> np.dtype:
    """Return the dtype of the records of an overlay's array."""
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
    """The tokens of a manifest's captions by row.

    Args:
        path: The array.
        manifest: The manifest.
        rows: Number of rows of the manifest.
        context_length: Length of the model's text input in tokens.

    Raises:
        StepError: An array is missing, broken, or does not match the manifest or the context
            length.
    """

    def __init__(self, path: str | Path, manifest: str | Path, rows: int, context_length: int):
        own, self._rows = _load(path), None
        below = array_of_base(path, manifest)
        if below is None:
            self._base, own = own, np.empty(0, record_type(context_length))
        else:
            self._base, self._rows = _load(below), rows_of_base(manifest)
        self._own_rows, self._own = np.array(own["row"]), own["tokens"]
        available = len(self._base)
        if self._rows is not None and (self._rows < available).all():
            available = len(self._rows)
        if available != rows:
            raise StepError(f"{path} has {available} rows, but the manifest has {rows}")
        for array in (self._base, self._own):
            if array.dtype != TOKEN or array.ndim != 2:
                raise StepError(
                    f"{path} must be uint16 [rows, context], got {array.dtype} {array.shape}"
                )
            if array.shape[1] != context_length:
                raise StepError(
                    f"{path} has {array.shape[1]} tokens per caption, but the model takes "
                    f"{context_length}"
                )

    def __getitem__(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the tokens of rows, uint16 ``[rows, context length]``."""
        rows = np.asarray(rows)
        tokens = self._base[rows if self._rows is None else self._rows[rows]]
        if len(self._own_rows):
            places = np.searchsorted(self._own_rows, rows).clip(max=len(self._own_rows) - 1)
            own = self._own_rows[places] == rows
            tokens[own] = self._own[places[own]]
        return tokens


def is_overlay(path: str | Path) -> bool:
    """Return whether an array belongs to an overlay."""
    return _load(path).dtype.names is not None


def array_of_base(path: str | Path, manifest: str | Path) -> Path | None:
    """Return the base's array of an overlay's array; None if the array is complete."""
    return file_of_base(path, manifest) if is_overlay(path) else None


def _load(path: str | Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StepError(f"token array {path} cannot be read: {error}") from error
