"""Reads lists of URLs and captions (TSV, CSV, Parquet) column-wise: no loop over their rows."""

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from tqdm import tqdm

from workflow_scripts.common.errors import StepError

FORMATS = ("tsv", "csv", "parquet")
_BLOCK = 64 << 20  # bytes
_NEWLINE = 10
_FIRST_ROWS, _FIRST_BYTES = 1000, 1 << 18
_SCHEMA = pa.schema(
    [("row", pa.int64()), ("url", pa.large_string()), ("caption", pa.large_string())]
)


def format_of(name: str) -> str:
    """Return the format that a file's name tells, whether or not it is compressed (``.gz``).

    Raises:
        StepError: The name does not tell.
    """
    ending = name.lower().removesuffix(".gz").rpartition(".")[2]
    if ending not in FORMATS:
        raise StepError(
            f"the name {name!r} does not tell the list's format; give it ({', '.join(FORMATS)})"
        )
    return ending


def read_list(
    path: str | Path, format: str, columns: list[str], header: bool
) -> tuple[pa.Table, int]:
    """Read a list.

    Args:
        path: A file, as it is or with gzip (``.gz``).
        format: One of ``FORMATS``. In a TSV, quotes mean nothing and tabs beyond the last column
            belong to the caption; CSV is quoted as RFC 4180 has it. Bytes that are no UTF-8
            become U+FFFD in a TSV.
        columns: Names of all columns in order, ``url`` and ``caption`` among them. In a Parquet
            file, columns that have these names already are taken wherever they stand.
        header: The first line of a TSV or CSV names the columns.

    Returns:
        The well-formed rows - ``row`` (int64, counted from 0, without the header), ``url``,
        ``caption`` - and how many rows there are with the malformed ones.

    Raises:
        StepError: The file is not there, or not of that format, or its columns are others.
    """
    missing = {"url", "caption"} - set(columns)
    if missing:
        raise StepError(f"--columns {','.join(columns)} does not say which is the {missing.pop()}")
    try:
        if header and format != "parquet":
            _check_header(path, format, columns)
        if format == "parquet":
            return _read_parquet(path, columns)
        if format == "csv":
            return _read_csv(path, columns, header)
        return _read_tsv(path, columns, header)
    except FileNotFoundError as error:
        raise StepError(f"there is no list {path}; give its path or URL") from error
    except pa.ArrowInvalid as error:
        raise StepError(f"{path} is not a {format} list: {error}") from error


def _check_header(path: str | Path, format: str, columns: list[str]) -> None:
    """Refuse a list whose first line calls the columns url and caption, but at other places."""
    with pa.input_stream(str(path), compression="detect") as stream:
        line = stream.read(_BLOCK >> 10).decode("utf-8-sig", "replace").partition("\n")[0]
    names = line.strip("\r").split("\t") if format == "tsv" else next(csv.reader([line]), [])
    if {"url", "caption"} <= set(names) and names != columns:
        raise StepError(
            f"the first line of {path} says {','.join(names)}, but --columns says "
            f"{','.join(columns)}; make them agree"
        )


def _read_parquet(path: str | Path, columns: list[str]) -> tuple[pa.Table, int]:
    file = pq.ParquetFile(path)
    names = file.schema_arrow.names
    if not {"url", "caption"} <= set(names):
        if len(names) != len(columns):
            raise StepError(
                f"{path} has the columns {','.join(names)}; say with --columns, in this order, "
                "which is the url and which the caption"
            )
        wanted = [names[columns.index(name)] for name in ("url", "caption")]
    else:
        wanted = ["url", "caption"]
    table = file.read(columns=wanted).select(wanted)
    table = pa.table(
        {
            "row": np.arange(len(table)),
            "url": table[0].cast(pa.large_string()),
            "caption": table[1].cast(pa.large_string()).fill_null(""),
        }
    )
    return _with_url(table), len(table)


def _read_csv(path: str | Path, columns: list[str], header: bool) -> tuple[pa.Table, int]:
    bad: list[int] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        bad.append(row.number - 1 - header)
        return "skip"

    table = pa_csv.read_csv(
        path,
        # One thread, because only then does Arrow say which rows it skipped.
        pa_csv.ReadOptions(
            use_threads=False, block_size=_BLOCK, skip_rows=int(header), column_names=columns
        ),
        pa_csv.ParseOptions(
            newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=skip
        ),
        pa_csv.ConvertOptions(
            column_types=dict.fromkeys(columns, pa.large_string()),
            strings_can_be_null=False,
            include_columns=["url", "caption"],
        ),
    )
    rows = len(table) + len(bad)
    well_formed = np.ones(rows, dtype=bool)
    well_formed[bad] = False
    table = table.add_column(0, "row", pa.array(np.flatnonzero(well_formed)))
    return _with_url(table), rows


def _read_tsv(path: str | Path, columns: list[str], header: bool) -> tuple[pa.Table, int]:
    tables, rows = [_SCHEMA.empty_table()], 0
    with pa.input_stream(str(path), compression="detect") as stream:
        blocks = _whole_lines(stream, header)
        for block in tqdm(blocks, "read", unit=" blocks of 64 MB", mininterval=5, delay=5):
            lines = _lines(block)
            tables.append(_with_url(_split(lines, rows, columns)))
            rows += len(lines)
    return pa.concat_tables(tables), rows


def _whole_lines(stream: io.BufferedIOBase, header: bool) -> Iterator[bytes]:
    """Yield the stream in blocks that end where a line ends, without mark and header line."""
    rest, first = b"", True
    while True:
        piece = stream.read(_BLOCK)
        block = rest + piece
        end = block.rfind(b"\n") + 1 if piece else len(block)
        block, rest = block[:end], block[end:]
        if first and block:
            first = False
            block = block.removeprefix(b"\xef\xbb\xbf")
            block = block.partition(b"\n")[2] if header else block
        if block:
            yield block
        if not piece:
            return


def _lines(block: bytes) -> pa.LargeStringArray:
    """Cut a block into lines without a loop: Arrow's text is offsets into one buffer."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    lines = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), buffers)
    try:
        text = lines.cast(pa.large_string())
    except pa.ArrowInvalid:
        return _lines(block.decode("utf-8", "replace").encode())
    return pc.ascii_rtrim(text, "\r\n")


def _split(lines: pa.LargeStringArray, first: int, columns: list[str]) -> pa.Table:
    """Split lines at the tabs that separate columns: all before the caption, all behind it."""
    enough = pc.greater_equal(pc.count_substring(lines, "\t"), len(columns) - 1)
    rows = np.flatnonzero(enough.to_numpy(zero_copy_only=False)) + first
    lines = lines.filter(enough)
    before = columns.index("caption")
    head = pc.split_pattern(lines, "\t", max_splits=before) if before else None
    rest = pc.list_element(head, before) if before else lines
    behind = len(columns) - 1 - before
    tail = pc.split_pattern(rest, "\t", max_splits=behind, reverse=True) if behind else None
    place = columns.index("url")
    side, element = (head, place) if place < before else (tail, place - before)
    caption = pc.list_element(tail, 0) if behind else rest
    return pa.table([pa.array(rows), pc.list_element(side, element), caption], schema=_SCHEMA)


def _with_url(table: pa.Table) -> pa.Table:
    """Leave out rows without a URL; blanks around one are no part of it."""
    url = pc.utf8_trim_whitespace(table["url"])
    table = table.set_column(1, "url", url).cast(_SCHEMA)
    return table.filter(pc.fill_null(pc.greater(pc.binary_length(url), 0), False))


def first_rows(
    path: str | Path, format: str, columns: list[str], header: bool
) -> tuple[pa.Table, int]:
    """Return what :func:`read_list` returns of a list's first rows; it takes no time.

    Raises:
        StepError: As :func:`read_list`.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory() as folder:
        begin = Path(folder, f"begin.{format}")
        try:
            if format == "parquet":
                batches = pq.ParquetFile(path).iter_batches(batch_size=_FIRST_ROWS)
                pq.write_table(pa.Table.from_batches([next(batches)]), begin)
            else:
                with pa.input_stream(str(path), compression="detect") as stream:
                    text = stream.read(_FIRST_BYTES)
                whole = text.rpartition(b"\n")[0] if len(text) == _FIRST_BYTES else text
                begin.write_bytes(whole)
            return read_list(begin, format, columns, header)
        except (StopIteration, pa.ArrowInvalid) as error:
            raise StepError(f"{path} is not a {format} list with rows") from error
        except StepError as error:
            raise StepError(str(error).replace(str(begin), str(path))) from error
