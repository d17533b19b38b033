"""Manifests of downloaded pairs as streams of rows, for steps that pass millions of them on.

These manifests have the columns of ``manifest.SCHEMA`` and ``sha256``. Only some ten thousand rows
of a stream are in memory at a time. The checks are those of manifest.py.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.data.manifest import SCHEMA, check_places

PAIRS = SCHEMA.append(pa.field("sha256", pa.binary(32), nullable=False))
_GROUP = 1 << 17  # rows that are written at a time
_BATCH = 1 << 16  # rows that are read at a time


def count_pairs(path: Path) -> int:
    """Return the number of rows of a manifest.

    Raises:
        StepError: There is no such file, or it is not a manifest with digests.
    """
    with _open(path) as file:
        return file.metadata.num_rows


def read_pairs(path: Path) -> Iterator[pa.Table]:
    """Yield the rows of a manifest, with the columns ``PAIRS``, some at a time.

    Raises:
        StepError: There is no such file, it is not a manifest with digests, or a row points
            outside the results root.
    """
    with _open(path) as file:
        # Asked for more than one, Arrow would keep all row groups until the last one is read.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_BATCH, [group], PAIRS.names):
                table = pa.Table.from_batches([batch]).select(PAIRS.names)
                places = (table[name].to_numpy() for name in ("offset", "size"))
                check_places(path, table["tar"].unique().to_pylist(), *places)
                yield table


def write_pairs(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write a manifest, whole or not at all, and return its number of rows.

    Args:
        path: Where to.
        tables: With the columns ``PAIRS``, of any number of rows, as from :func:`read_pairs`.

    Raises:
        StepError: A key is duplicated, or a value is missing.
    """
    rows, last, ascending = 0, "", True
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, PAIRS, compression="zstd", use_dictionary=["tar"]) as file:
            for table in _groups(_complete(path, table) for table in tables):
                # Keys that ascend, as rows of a list do, are known to differ.
                keys = table["key"].combine_chunks()
                ascending &= keys[0].as_py() > last and _ascend(keys)
                last = keys[-1].as_py()
                rows += len(table)
                file.write_table(table)
        if not ascending:
            _check_keys(path, pq.read_table(temporary, columns=["key"])["key"])
    return rows


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise StepError(f"there is no manifest {path}; make it first") from error
    except pa.ArrowInvalid as error:
        raise StepError(f"{path} is not a Parquet file ({error}); make it again") from error
    there = {field.name: field.type for field in file.schema_arrow}
    for field in PAIRS:
        if there.get(field.name) != field.type:
            found = there.get(field.name, "absent")
            file.close()
            raise StepError(
                f"{path} is no manifest of downloaded pairs: column {field.name!r} is {found}, not "
                f"{field.type}; delete it, and what it was made of, to make it again"
            )
    return file


def _complete(path: Path, table: pa.Table) -> pa.Table:
    for name in PAIRS.names:
        if table[name].null_count:
            raise StepError(f"{path} cannot be written, column {name!r} has rows without a value")
    return table.cast(PAIRS)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Put tables together to such of ``_GROUP`` rows; the last one has fewer."""
    waiting = PAIRS.empty_table()
    for table in tables:
        waiting = pa.concat_tables([waiting, table])
        while len(waiting) >= _GROUP:
            yield waiting.slice(0, _GROUP)
            waiting = waiting.slice(_GROUP)
    if len(waiting):
        yield waiting


def _ascend(keys: pa.StringArray) -> bool:
    return pc.all(pc.less(keys[:-1], keys[1:])).as_py() is not False


def _check_keys(path: Path, keys: pa.ChunkedArray) -> None:
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        key = repeated[0]["values"].as_py()
        raise StepError(f"{path} cannot be written, key {key!r} stands twice")
