"""Read and write manifests, the tables with one row per image-caption pair.

Columns: ``key`` (unique); ``tar`` (relative to the results root), and ``offset`` and ``size`` in
bytes of the encoded image in it; ``caption``; ``poisoned``. Evaluation sets also have ``label``,
the class index. The order of rows is significant: "the first N pairs" are the first N rows.

Manifests of unmodified images (sources, datasets, evaluation sets) have an additional column
``sha256``, the 32-byte digest of the original image file; the image in the tar may be a resized
copy. It is only read by :func:`read_digests`.

A manifest may be an overlay on another one (see overlay.py); all functions that read return
complete rows.
"""

import functools
import os
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.api.extensions import ExtensionArray

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.data import overlay

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("tar", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("poisoned", pa.bool_(), nullable=False),
    ]
)
EVALUATION_SCHEMA = SCHEMA.append(pa.field("label", pa.int64(), nullable=False))

_DIGEST = pa.field("sha256", pa.binary(32), nullable=False)

# Text stays in Arrow's memory: six million Python strings would take several additional GB.
_TEXT = {pa.string(): pd.StringDtype("pyarrow"), pa.large_string(): pd.StringDtype("pyarrow")}
_CHANGEABLE = ("tar", "offset", "size", "caption", "poisoned")
_OPEN_TARS = 4096


def read_manifest(path: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a manifest of pairs or of an evaluation set.

    Args:
        path: The manifest.
        columns: Columns to read; defaults to those of ``SCHEMA`` or ``EVALUATION_SCHEMA``.

    Returns:
        The columns; text as ``string[pyarrow]``.

    Raises:
        StepError: The file does not exist, is not a manifest, or has a row that points outside the
            results root.
    """
    names = _checked_columns(path, columns)
    return _to_frame(path, overlay.read_columns(path, names))


def read_rows(
    path: str | Path, rows: np.ndarray, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read some rows of a manifest without holding all rows in memory.

    Args:
        path: The manifest.
        rows: int64, ascending.
        columns: See :func:`read_manifest`.

    Returns:
        As :func:`read_manifest`, with ``rows`` as the index.

    Raises:
        StepError: As :func:`read_manifest`.
    """
    names = _checked_columns(path, columns)
    return _to_frame(path, overlay.read_rows(path, rows, names)).set_index(rows)


@dataclass(frozen=True)
class Places:
    """Locations of the images of a manifest; takes 20 bytes per row.

    Attributes:
        tars: Paths of tars, relative to the results root.
        tar: int32 [rows], index into ``tars``.
        offset: int64 [rows], in bytes.
        size: int64 [rows], in bytes.
    """

    tars: Sequence[str]
    tar: np.ndarray
    offset: np.ndarray
    size: np.ndarray

    def __len__(self) -> int:
        return len(self.tar)

    @classmethod
    def of(cls, frame: pd.DataFrame) -> "Places":
        """Return the locations of the rows of a manifest."""
        codes, names = pd.factorize(frame["tar"])
        numbers = (frame[name].to_numpy(np.int64) for name in ("offset", "size"))
        return cls([str(name) for name in names], codes.astype(np.int32), *numbers)

    @classmethod
    def read(cls, path: str | Path) -> "Places":
        """Read only the locations from a manifest.

        Raises:
            StepError: See :func:`read_manifest`.
        """
        _checked_columns(path, ["tar", "offset", "size"])
        names, codes = overlay.read_codes(path, "tar")
        table = overlay.read_columns(path, ["offset", "size"])
        places = cls(names, codes, *(table[name].to_numpy() for name in ("offset", "size")))
        check_places(path, names, places.offset, places.size)
        return places


def read_digests(path: str | Path) -> pd.Series:
    """Read the SHA-256 digests of the original image files, in the order of the rows.

    Returns:
        Series ``sha256`` of Arrow type ``fixed_size_binary[32]``.

    Raises:
        StepError: The file does not exist or has no digests.
    """
    if overlay.types_of(path).get(_DIGEST.name) != _DIGEST.type:
        raise StepError(
            f"{path} has no digests of its images' files (column {_DIGEST.name!r}); delete it "
            "and the files that it was made from, so that all are made again"
        )
    column = pq.read_table(path, columns=[_DIGEST.name])[_DIGEST.name]
    return pd.Series(pd.array(column, dtype=pd.ArrowDtype(_DIGEST.type)), name=_DIGEST.name)


def digest_column(digests: bytes) -> ExtensionArray:
    """Return column ``sha256`` of a manifest from concatenated digests of 32 bytes."""
    rows = len(digests) // _DIGEST.type.byte_width
    buffers = [None, pa.py_buffer(digests)]
    array = pa.FixedSizeBinaryArray.from_buffers(_DIGEST.type, rows, buffers)
    return pd.array(array, dtype=pd.ArrowDtype(_DIGEST.type))


def write_manifest(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a manifest atomically; with a column ``label``, one of an evaluation set.

    A column ``sha256`` (from :func:`read_digests` or :func:`digest_column`) is written too.

    Raises:
        StepError: A key is duplicated, a value is missing, or a row points outside the results
            root.
    """
    schema = _schema_for(frame.columns)
    if _DIGEST.name in frame.columns:
        schema = schema.append(_DIGEST)
    try:
        table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise StepError(f"cannot write {path}: a value has a wrong type: {error}") from error
    empty = [name for name in schema.names if table[name].null_count]
    if empty:
        raise StepError(f"cannot write {path}: column {empty[0]!r} has missing values")
    _check_frame(path, frame)
    repeated = frame["key"].duplicated()
    if repeated.any():
        raise StepError(
            f"cannot write {path}: key {frame['key'][repeated].iloc[0]!r} is duplicated"
        )
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")


def write_changed(path: str | Path, base: str | Path, changed: pd.DataFrame) -> None:
    """Write a manifest with all rows of ``base``, some of them changed, as an overlay.

    Args:
        path: The manifest to write.
        base: A complete manifest.
        changed: The changed rows, with the columns of ``SCHEMA`` except ``key`` and the row numbers
            as ascending index. A missing caption leaves the base's caption unchanged.

    Raises:
        StepError: A value other than a caption is missing, or a row points outside the results
            root.
    """
    fields = [SCHEMA.field(name) for name in _CHANGEABLE]
    own = {field.name: pa.array(changed[field.name], field.type) for field in fields}
    empty = [name for name in _CHANGEABLE if name != "caption" and own[name].null_count]
    if empty:
        raise StepError(f"cannot write {path}: column {empty[0]!r} has missing values")
    _check_frame(path, changed)
    overlay.write_changed(path, base, changed.index.to_numpy(), own)


def write_kept(path: str | Path, manifest: str | Path, kept: np.ndarray) -> None:
    """Write a manifest with a subset of the rows of another one.

    A subset of an overlay is an overlay too.

    Args:
        path: The manifest to write.
        manifest: The manifest to filter.
        kept: bool [rows of ``manifest``].
    """
    if overlay.base_of(manifest) is not None:
        overlay.write_kept(path, manifest, kept)
    else:
        write_manifest(path, read_manifest(manifest)[kept])


def _checked_columns(path: str | Path, columns: Sequence[str] | None) -> list[str]:
    """Return the names of the columns to read, after checking that they exist and their types."""
    there = overlay.types_of(path)
    fields = [field for field in _schema_for(there) if columns is None or field.name in columns]
    for field in fields:
        if there.get(field.name) != field.type:
            found = there.get(field.name, "absent")
            raise StepError(
                f"{path} is not a manifest: column {field.name!r} is {found}, not {field.type}"
            )
    return [field.name for field in fields]


def _to_frame(path: str | Path, table: pa.Table) -> pd.DataFrame:
    frame = table.to_pandas(types_mapper=_TEXT.get)
    _check_frame(path, frame)
    return frame


def _schema_for(columns) -> pa.Schema:
    return EVALUATION_SCHEMA if "label" in columns else SCHEMA


def _check_frame(path: str | Path, frame: pd.DataFrame) -> None:
    if {"tar", "offset", "size"} <= set(frame.columns):
        check_places(path, frame["tar"].unique(), frame["offset"], frame["size"])


def check_places(path: str | Path, tars: Iterable[str], offsets, sizes) -> None:
    """Check that the rows of a manifest point to locations inside the results root.

    Args:
        path: The manifest, for error messages.
        tars: The distinct values of column ``tar``.
        offsets: int64 [rows], an array or a series.
        sizes: int64 [rows], an array or a series.

    Raises:
        StepError: A tar is not inside the results root, or an offset or size is negative.
    """
    for tar in tars:
        place = PurePosixPath(tar)
        if not tar or place.is_absolute() or ".." in place.parts:
            raise StepError(f"{path} points to {tar!r}, which is not inside the results root")
    if len(offsets) and (offsets.min() < 0 or sizes.min() < 0):
        raise StepError(f"{path} has a negative offset or size; make it again")


class _Tar:
    """A file descriptor that is closed when the object is garbage-collected."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self):
        # The attribute is missing if opening failed.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class ImageReader:
    """Reads encoded images from tars by ``(tar, offset, size)``.

    Open tars are kept in an LRU cache. Reading does not move a shared file position, so threads and
    forked processes may share a reader; an unpickled reader opens its own files.
    """

    def __init__(self, root: str | Path):
        """Read tars below the results root ``root``."""
        self.root = Path(root)
        # Use at most half of the process's descriptors, and leave the rest to other code.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = 2 * _OPEN_TARS
        if soft != resource.RLIM_INFINITY and soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        limit = wanted if soft == resource.RLIM_INFINITY else min(soft, wanted)
        self._open = functools.lru_cache(maxsize=max(1, limit // 2))(self._open_tar)

    def __reduce__(self):
        return (ImageReader, (self.root,))

    def _open_tar(self, tar: str) -> _Tar:
        try:
            return _Tar(self.root / tar)
        except FileNotFoundError as error:
            raise StepError(
                f"{self.root / tar} is missing, but a manifest refers to it; make it again"
            ) from error

    def read(self, tar: str, offset: int, size: int) -> bytes:
        """Return ``size`` bytes of ``tar`` (relative to the root), starting at ``offset``.

        Raises:
            StepError: The tar does not exist or is too short.
        """
        file = self._open(tar)
        pieces, missing = [], int(size)
        while missing:
            piece = os.pread(file.descriptor, missing, int(offset) + size - missing)
            if not piece:
                raise StepError(
                    f"{self.root / tar} is shorter than its manifest states "
                    f"(no data at byte {offset + size - missing}); make it again"
                )
            pieces.append(piece)
            missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
