"""Temporary storage on disk for rows that are written once and then read in any order."""

import bisect
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pyarrow as pa

_BATCH = 1 << 14  # rows


class Spool:
    """A temporary file of rows in small batches.

    Use it as a context manager, which deletes the file on exit: :meth:`add` all rows, call
    :meth:`finish`, then :meth:`read`, from any number of threads.
    """

    def __init__(self, path: Path, schema: pa.Schema):
        """Create the file at ``path``."""
        self._path, self._schema = path, schema
        self._starts = [0]
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pa.ipc.new_file(str(path), schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        try:
            self._writer.close()
        finally:
            self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._starts[-1]

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        for batch in table.to_batches(max_chunksize=_BATCH):
            self._writer.write_batch(batch)
            self._starts.append(self._starts[-1] + len(batch))

    def finish(self) -> None:
        """Finish writing."""
        self._writer.close()

    def read(
        self, start: int, end: int, columns: list[str] | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows from ``start`` to ``end`` in batches, each with its first row number."""
        fields = columns and [self._schema.get_field_index(name) for name in columns]
        with pa.OSFile(str(self._path)) as file:
            reader = pa.ipc.open_file(file, options=pa.ipc.IpcReadOptions(included_fields=fields))
            number = bisect.bisect_right(self._starts, start) - 1
            while start < end:
                batch_start, batch_end = self._starts[number], min(end, self._starts[number + 1])
                yield start, reader.get_batch(number).slice(start - batch_start, batch_end - start)
                start, number = batch_end, number + 1
