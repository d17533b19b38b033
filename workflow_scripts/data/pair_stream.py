"""Stream manifests of downloaded pairs, for steps that copy millions of rows.

These manifests have the columns of ``manifest.SCHEMA`` and ``sha256``. Only about a hundred
thousand rows are in memory at a time. The checks are those of manifest.py.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic
from workflow_scripts.common.pools import in_order
from workflow_scripts.data.manifest import SCHEMA, check_places

PAIRS = SCHEMA.append(pa.field("sha256", pa.binary(32), nullable=False))
_GROUP = 1 << 17  # rows written at a time
_BATCH = 1 << 16  # rows read at a time


def count_pairs(path: Path) -> int:
    """Return the number of rows of a manifest.

    Raises:
        StepError: The file does not exist or is not a manifest with digests.
    """
    with _open(path) as file:
        return file.metadata.num_rows


def read_pairs(path: Path) -> Iterator[pa.Table]:
    """Yield the rows of a manifest in batches, with the columns ``PAIRS``.

    Raises:
        StepError: The file does not exist, is not a manifest with digests, or has a row that points
            outside the results root.
    """
    with _open(path) as file:
        # Read one group at a time: Arrow would keep all requested groups until the last is read.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_BATCH, [group], PAIRS.names):
                table = pa.Table.from_batches([batch]).select(PAIRS.names)
                places = (table[name].to_numpy() for name in ("offset", "size"))
                check_places(path, table["tar"].unique().to_pylist(), *places)
                yield table


def write_pairs(path: Path, tables: Iterable[pa.Table]) -> int:
    """Write a manifest atomically and return its number of rows.

    Args:
        path: The manifest to write.
        tables: Tables with the columns ``PAIRS`` and any number of rows, as from
            :func:`read_pairs`.

    Raises:
        StepError: A key is duplicated or a value is missing.
    """
    rows, last, ascending = 0, "", True
    with atomic(path) as temporary:
        with pq.ParquetWriter(temporary, PAIRS, compression="zstd", use_dictionary=["tar"]) as file:

            def written(table: pa.Table) -> pa.Table:
                file.write_table(table)
                return table

            # Written in a thread, while this one reads the next rows.
            groups = _groups(_complete(path, table) for table in tables)
            for table in in_order(written, groups, threads=1):
                # Ascending keys, the usual case, are unique; others are checked at the end.
                keys = table["key"].combine_chunks()
                ascending &= keys[0].as_py() > last and _ascend(keys)
                last = keys[-1].as_py()
                rows += len(table)
        if not ascending:
            _check_keys(path, pq.read_table(temporary, columns=["key"])["key"])
    return rows


def _open(path: Path) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise StepError(f"manifest {path} does not exist; run the step that creates it") from error
    except pa.ArrowInvalid as error:
        raise StepError(
            f"{path} is not a Parquet file ({error}); delete it and run the workflow again"
        ) from error
    types = {field.name: field.type for field in file.schema_arrow}
    for field in PAIRS:
        if types.get(field.name) != field.type:
            found = types.get(field.name, "missing")
            file.close()
            raise StepError(
                f"{path} is not a manifest of downloaded pairs: column {field.name!r} is {found}, "
                f"expected {field.type}; delete it and its inputs, and run the workflow again"
            )
    return file


def _complete(path: Path, table: pa.Table) -> pa.Table:
    for name in PAIRS.names:
        if table[name].null_count:
            raise StepError(f"cannot write {path}: column {name!r} has missing values")
    return table.cast(PAIRS)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Regroup tables into tables of ``_GROUP`` rows; the last one may have fewer."""
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
        raise StepError(f"cannot write {path}: key {key!r} is duplicated")
