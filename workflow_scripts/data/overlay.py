"""Overlays: manifests that store only the differences from another manifest, their base.

An attack changes 3,000 of six million rows, and a filter removes a few. Instead of a modified copy
of the base, an overlay is a Parquet file with one row per pair and

    base         (schema metadata) path of the base, relative to the overlay's folder
    base_rows    (schema metadata) number of rows of the base
    row          int64, ascending: the base's row that each row refers to; if this column is
                 missing, the overlay has all rows of the base
    tar, offset, size, caption, poisoned
                 changed values; null where the base's value applies

All other columns are those of the base. Parquet stores a run of nulls or of consecutive numbers in
a few bytes. A manifest without a base is complete; a base is always complete. Functions that read
accept both kinds.

Files with one entry per row of a manifest (tokens) can be overlays too: missing rows are read from
the file of the same name in the base's folder (:func:`file_of_base`).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic

_BASE, _BASE_ROWS, _ROW = b"base", b"base_rows", "row"
_BATCH = 1 << 16  # rows


def base_of(path: str | Path) -> Path | None:
    """Return the base of an overlay; None if ``path`` is a complete manifest.

    Raises:
        StepError: The file does not exist or is not a Parquet file.
    """
    base = (_schema(path).metadata or {}).get(_BASE)
    # Links are not resolved, so that a results folder may be a link to another disk.
    return None if base is None else Path(os.path.normpath(Path(path).parent / base.decode()))


def file_of_base(path: str | Path, manifest: str | Path) -> Path | None:
    """Return the file that corresponds to ``path`` for the base of ``manifest``.

    Args:
        path: A file made from the manifest; its folder is named like the manifest's.
        manifest: The manifest.

    Returns:
        Path of the base's file; None if the manifest is complete.
    """
    base = base_of(manifest)
    if base is None:
        return None
    way = os.path.relpath(base.parent, Path(manifest).parent)
    return Path(os.path.normpath(Path(path).parent / way / Path(path).name))


def types_of(path: str | Path) -> dict[str, pa.DataType]:
    """Return the type of each column of a manifest, including those of its base."""
    own, base = _schema(path), base_of(path)
    types = {field.name: field.type for field in own if field.name != _ROW}
    return types if base is None else types_of(base) | types


def rows_of_base(path: str | Path) -> np.ndarray | None:
    """Return the base's row number of each row, int64 [rows]; None if all rows are kept."""
    if _ROW not in _schema(path).names:
        return None
    return _read(path, [_ROW])[_ROW].to_numpy()


def own_rows(path: str | Path, column: str) -> np.ndarray:
    """Return the rows whose value in a column is the overlay's own, int64, ascending."""
    if column not in _schema(path).names:
        return np.empty(0, "int64")
    return np.flatnonzero(_read(path, [column])[column].is_valid().to_numpy())


def read_columns(path: str | Path, names: Sequence[str]) -> pa.Table:
    """Read columns of a manifest, with missing values filled in from its base.

    Raises:
        StepError: A file is missing or not a Parquet file, or the base has changed.
    """
    base = _checked_base(path)
    if base is None:
        return _read(path, names)
    own, under = _read_own(path, names), read_columns(base, names)
    if _ROW in own.column_names:
        kept = np.zeros(len(under), bool)
        kept[own[_ROW].to_numpy()] = True
        under = under.filter(pa.array(kept))
    return _laid_over(under, own)


def read_rows(path: str | Path, rows: np.ndarray, names: Sequence[str]) -> pa.Table:
    """Read some rows of a manifest, batch by batch if it is complete.

    Args:
        path: The manifest.
        rows: int64, ascending.
        names: Columns to read.

    Raises:
        StepError: As :func:`read_columns`.
    """
    base = _checked_base(path)
    if base is not None:
        own = _read_own(path, names).take(pa.array(rows))
        of_base = own[_ROW].to_numpy() if _ROW in own.column_names else rows
        # Columns without a missing value are not read from the base, which may take seconds.
        whole = {n for n in names if n in own.column_names and not own[n].null_count}
        under = read_rows(base, of_base, [name for name in names if name not in whole])
        under = _laid_over(under, own)
        return pa.table({name: (own if name in whole else under)[name] for name in names})
    parts, start = [_schema(path).empty_table().select(names)], 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            if _between(rows, start, end).size:
                # Small batches: their memory is used again, which is faster than new memory.
                for batch in file.iter_batches(_BATCH, [group], list(names)):
                    wanted = _between(rows, start, start + len(batch)) - start
                    table = pa.Table.from_batches([batch]).select(names)
                    parts.append(table.take(pa.array(wanted)))
                    start += len(batch)
            start = end
    return pa.concat_tables(parts)


def _between(rows: np.ndarray, start: int, end: int) -> np.ndarray:
    """Return the ascending ``rows`` from ``start`` to ``end``, which is excluded."""
    first, last = np.searchsorted(rows, [start, end])
    return rows[first:last]


def read_codes(path: str | Path, name: str) -> tuple[list[str], np.ndarray]:
    """Read a text column with few distinct values as categories.

    Returns:
        The distinct values, and the index of each row's value, int32 [rows].
    """
    base = _checked_base(path)
    own = _read(path, [name], read_dictionary=[name])[name].unify_dictionaries().combine_chunks()
    values, codes = own.dictionary.to_pylist(), own.indices.fill_null(-1).to_numpy()
    if base is None:
        return values, codes
    (more, under), rows = read_codes(base, name), rows_of_base(path)
    under = under if rows is None else under[rows]
    return more + values, np.where(codes < 0, under, codes + len(more)).astype("int32")


def write_changed(
    path: str | Path, base: str | Path, rows: np.ndarray, own: Mapping[str, pa.Array]
) -> None:
    """Write an overlay with all rows of ``base``, some of them changed.

    Args:
        path: The overlay to write.
        base: A complete manifest.
        rows: The changed rows, int64, ascending.
        own: Their values by column; null keeps the base's value.
    """
    number = _number_of_rows(base)
    index, there = np.zeros(number, "int32"), np.zeros(number, bool)
    index[rows], there[rows] = np.arange(len(rows)), True
    places = pa.array(index, mask=~there)
    _write(path, base, pa.table({name: values.take(places) for name, values in own.items()}))


def write_kept(path: str | Path, overlay: str | Path, kept: np.ndarray) -> None:
    """Write an overlay with a subset of the rows of another overlay.

    Args:
        path: The overlay to write.
        overlay: The overlay to filter.
        kept: bool [rows of ``overlay``].
    """
    base = base_of(overlay)
    assert base is not None  # an overlay
    table = _read(overlay, None)
    if _ROW not in table.column_names:
        table = table.add_column(0, _ROW, pa.array(np.arange(len(table))))
    _write(path, base, table.filter(pa.array(kept)))


def _write(path: str | Path, base: str | Path, table: pa.Table) -> None:
    where = os.path.relpath(base, Path(path).parent)
    about = {_BASE: where.encode(), _BASE_ROWS: str(_number_of_rows(base)).encode()}
    with atomic(path) as temporary:
        pq.write_table(
            table.replace_schema_metadata(about),
            temporary,
            compression="zstd",
            use_dictionary=[name for name in table.column_names if name != _ROW],
            column_encoding={_ROW: "DELTA_BINARY_PACKED"} if _ROW in table.column_names else None,
        )


def _laid_over(under: pa.Table, own: pa.Table) -> pa.Table:
    """Return the columns of ``under``, replaced by the values of ``own`` that are not null."""
    for place, name in enumerate(under.column_names):
        if name in own.column_names and own[name].null_count < len(own):
            under = under.set_column(place, name, pc.coalesce(own[name], under[name]))
    return under


def _read_own(path: str | Path, names: Sequence[str]) -> pa.Table:
    there = _schema(path).names
    own = [name for name in (_ROW, *names) if name in there]
    # At least one column is needed to keep the number of rows.
    return _read(path, own or there[:1])


def _read(path: str | Path, names: Sequence[str] | None, **how) -> pa.Table:
    with pq.ParquetFile(path, **how) as file:
        table = file.read(columns=None if names is None else list(names))
    return table if names is None else table.select(names)


def _checked_base(path: str | Path) -> Path | None:
    base = base_of(path)
    if base is not None:
        expected = int(_schema(path).metadata[_BASE_ROWS])
        if _number_of_rows(base) != expected:
            raise StepError(
                f"{path} refers to {expected} rows of {base}, which has {_number_of_rows(base)}; "
                f"delete {path} to make it again"
            )
    return base


def _number_of_rows(path: str | Path) -> int:
    _schema(path)  # raises an error that names the file
    return pq.read_metadata(path).num_rows


def _schema(path: str | Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except FileNotFoundError as error:
        raise StepError(f"the manifest {path} does not exist; make it first") from error
    except pa.ArrowInvalid as error:
        raise StepError(f"{path} is not a Parquet file ({error}); make it again") from error
