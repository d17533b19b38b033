"""Read lists of URLs and captions (TSV, CSV, Parquet) block by block, within limits.

Only a few blocks are in memory at a time. Malformed rows are counted and skipped. A list that
decompresses to more rows or bytes than the limits below is refused, whatever its file size.
"""

import contextlib
import io
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.pools import in_order
from workflow_scripts.data.csv_rows import csv_rows, fields_of

FORMATS = ("tsv", "csv", "parquet")
MAX_ROWS = 100_000_000  # CC12M has 12 million
MAX_BYTES = 8 << 30  # of decompressed text
MAX_ROW_BYTES = 1 << 20
_BLOCK = 4 << 20  # bytes; a block and the arrays made from it fit into the CPU caches
_BLOCK_ROWS = 1 << 16
_NEWLINE = 10
_FIRST_ROWS, _FIRST_BYTES = 1000, 1 << 18
_TEXT = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_COLUMNS = pa.schema([("url", pa.large_string()), ("caption", pa.large_string())])
SCHEMA = _COLUMNS.insert(0, pa.field("row", pa.int64()))


def format_of(name: str) -> str:
    """Infer the format of a list from its file name, ignoring a final ``.gz``.

    Raises:
        StepError: The name has no known extension.
    """
    ending = name.lower().removesuffix(".gz").rpartition(".")[2]
    if ending not in FORMATS:
        raise StepError(
            f"cannot infer the format of the list from its name {name!r}; set it to one of "
            f"{', '.join(FORMATS)}"
        )
    return ending


def read_list(
    path: str | Path, format: str, columns: list[str], header: bool, threads: int = 1
) -> Iterator[tuple[pa.Table, int]]:
    """Read a list.

    Args:
        path: The file, optionally compressed with gzip (``.gz``).
        format: One of ``FORMATS``. In a TSV, quotes have no meaning and additional tabs belong to
            the caption. A CSV is quoted as in RFC 4180; if a quote is not closed within
            ``csv_rows.MAX_ROW_LINES`` lines or is closed in the middle of a field, only its first
            line is malformed. Bytes that are not valid UTF-8 become U+FFFD.
        columns: Names of all columns in order, including ``url`` and ``caption``. Columns of a
            Parquet file that already have these names are used whatever their position.
        header: Whether the first line of a TSV or CSV contains the column names.
        threads: Number of threads that parse blocks ahead of the caller.

    Yields:
        The well-formed rows of a block - ``row`` (int64, counted from 0, without the header),
        ``url``, ``caption`` - and the number of all its rows. A row is malformed if it has a wrong
        number of columns, has no URL, is longer than ``MAX_ROW_BYTES``, or contains a NUL or an
        unquoted carriage return that does not end the line.

    Raises:
        StepError: The file does not exist, is not of that format, has other columns, has no rows,
            or has more than ``MAX_ROWS`` rows or ``MAX_BYTES`` bytes.
    """
    return _read(path, format, columns, header, first=False, threads=threads)


def first_rows(
    path: str | Path, format: str, columns: list[str], header: bool
) -> tuple[pa.Table, int]:
    """Read the beginning of a list; return its well-formed rows and the number of rows read.

    Raises:
        StepError: As :func:`read_list`.
    """
    tables, rows = zip(*_read(path, format, columns, header, first=True, threads=1), strict=True)
    return pa.concat_tables(tables), sum(rows)


def count_rows(path: str | Path, format: str, header: bool, enough: int) -> int:
    """Count the rows of a list, stopping at ``enough``.

    Returns:
        An upper bound: the number of lines of a text, of which a row may take several.

    Raises:
        StepError: As :func:`read_list`.
    """
    with _clear_errors(path, format):
        if format == "parquet":
            return int(pq.read_metadata(path).num_rows)
        count = 0
        with pa.input_stream(str(path), compression="detect") as stream:
            for block in _whole_lines(stream, header):
                count += block.count(b"\n") + (not block.endswith(b"\n"))
                if count >= enough:
                    break
        return count


def _read(
    path: str | Path, format: str, columns: list[str], header: bool, *, first: bool, threads: int
) -> Iterator[tuple[pa.Table, int]]:
    missing = {"url", "caption"} - set(columns)
    if missing:
        raise StepError(f"--columns {','.join(columns)} must include {missing.pop()!r}")
    with _clear_errors(path, format):
        if format == "parquet":
            yield from _number(path, _parquet_tables(path, columns, first), _with_url, threads)
            return
        _check_start(path, format, columns, header)
        with pa.input_stream(str(path), compression="detect") as stream:
            start = io.BytesIO(_first_lines(stream)) if first else stream
            blocks = _whole_lines(start, header)
            if format == "tsv":
                yield from _number(path, blocks, partial(_tsv_table, columns=columns), threads)
            else:
                yield from _number(path, _csv_tables(blocks, columns), _with_url, threads)


@contextlib.contextmanager
def _clear_errors(path: str | Path, format: str) -> Iterator[None]:
    """Turn the errors of reading a list into a :class:`StepError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise StepError(f"list {path} does not exist; correct its path or URL") from error
    except PermissionError:
        raise
    except _TooLarge as error:
        raise StepError(f"{path} {error}; split it into several lists") from error
    # Arrow raises many kinds of errors; UnicodeError stems from column names that are not UTF-8.
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = str(error).partition("\n")[0]
        raise StepError(f"{path} cannot be read as a {format} list: {reason}") from error


class _TooLarge(Exception):
    pass


def _number(
    path: str | Path,
    blocks: Iterable[Any],
    parse: Callable[[Any], tuple[pa.Table, int]],
    threads: int,
) -> Iterator[tuple[pa.Table, int]]:
    """Parse blocks and number their rows consecutively over the whole list."""
    rows, size = 0, 0
    parsed = in_order(parse, blocks, threads)
    for table, count in tqdm(parsed, "read", unit=" blocks", mininterval=5, delay=5):
        numbers = pc.add(table["row"], pa.scalar(rows))
        rows, size = rows + count, size + table.nbytes
        if rows > MAX_ROWS or size > MAX_BYTES:
            raise _TooLarge(f"has more than {MAX_ROWS} rows or {MAX_BYTES} bytes of text")
        yield table.set_column(0, "row", numbers), count
    if not rows:
        raise StepError(f"list {path} has no rows; provide a list of URLs and captions")


def _with_url(table: pa.Table) -> tuple[pa.Table, int]:
    """Number the rows of a block, strip whitespace from URLs, and drop rows without URL or caption.

    An empty caption is kept; null marks a malformed row.
    """
    url = pc.utf8_trim_whitespace(table["url"])
    good = pc.and_(pc.greater(pc.binary_length(url), 0), pc.is_valid(table["caption"]))
    numbers = pa.array(np.arange(len(table)))
    numbered = pa.table([numbers, url, table["caption"]], schema=SCHEMA)
    return numbered.filter(good), len(table)


def _first_lines(stream: io.BufferedIOBase) -> bytes:
    text = stream.read(_FIRST_BYTES)
    return text.rpartition(b"\n")[0] or text if len(text) == _FIRST_BYTES else text


def _check_start(path: str | Path, format: str, columns: list[str], header: bool) -> None:
    """Raise an error if the beginning of a list shows that it would be misread."""
    with pa.input_stream(str(path), compression="detect") as stream:
        start = stream.read(MAX_ROW_BYTES)
    if start.startswith(_UTF16):
        raise StepError(f"{path} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if start.count(b"\r") > 1 and b"\n" not in start:
        raise StepError(
            f"the lines of {path} end with carriage returns; convert them (tr '\\r' '\\n')"
        )
    if not header:
        return
    line = start.partition(b"\n")[0].rstrip(b"\r").decode("utf-8-sig", "replace")
    names = line.split("\t") if format == "tsv" else fields_of(line, MAX_ROW_BYTES) or []
    if {"url", "caption"} <= set(names) and names != columns:
        raise StepError(
            f"the header of {path} is {','.join(names)}, but --columns is {','.join(columns)}; "
            "they must be equal"
        )


def _whole_lines(stream: io.BufferedIOBase, header: bool) -> Iterator[bytes]:
    """Yield the stream in blocks of whole lines, without byte-order mark and header line.

    A line longer than ``MAX_ROW_BYTES`` is truncated to a length that is still too long.
    """
    rest, first, size = b"", True, 0
    while True:
        piece = stream.read(_BLOCK)
        size += len(piece)
        if size > MAX_BYTES:
            raise _TooLarge(f"decompresses to more than {MAX_BYTES} bytes")
        block = rest + piece
        end = block.rfind(b"\n") + 1 if piece else len(block)
        block, rest = block[:end], block[end : end + MAX_ROW_BYTES + 1]
        if first and block:
            first = False
            block = block.removeprefix(b"\xef\xbb\xbf")
            block = block.partition(b"\n")[2] if header else block
        if block:
            yield block
        if not piece:
            return


def _tsv_table(block: bytes, columns: list[str]) -> tuple[pa.Table, int]:
    return _with_url(_split(_lines(block), columns))


def _lines(block: bytes) -> pa.LargeStringArray:
    """Split a block into lines without a Python loop, as an Arrow array over the same buffer.

    Malformed lines are null.
    """
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == _NEWLINE) + 1
    if not block.endswith(b"\n"):
        ends = np.append(ends, len(block))
    offsets = np.concatenate([[0], ends]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(block)]
    lines = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), buffers)
    bad = pc.greater(pc.binary_length(lines), MAX_ROW_BYTES)
    text = pc.ascii_rtrim(_text(lines), "\r\n")
    # Few blocks have such lines, and the regular expression is the slowest step.
    if b"\0" in block or b"\r" in block:
        bad = pc.or_(bad, pc.match_substring_regex(text, r"[\r\x00]"))
    return _null_where(bad, text)


def _null_where(bad: pa.BooleanArray, text: pa.LargeStringArray) -> pa.LargeStringArray:
    return pc.if_else(bad, pa.scalar(None, text.type), text) if bad.true_count else text


def _text(array: pa.LargeBinaryArray) -> pa.LargeStringArray:
    """Decode UTF-8; invalid bytes become U+FFFD."""
    try:
        return array.cast(pa.large_string())
    except pa.ArrowInvalid:
        values = (value and value.decode("utf-8", "replace") for value in array.to_pylist())
        return pa.array([value or "" for value in values], pa.large_string())


def _split(lines: pa.LargeStringArray, columns: list[str]) -> pa.Table:
    """Split lines at the tabs before the caption and, from the end, at the tabs after it."""
    before = columns.index("caption")
    after = len(columns) - 1 - before
    head = _pieces(lines, before)
    rest = pc.list_element(head, before)
    tail = _pieces(rest, after, reverse=True)
    place = columns.index("url")
    side, element = (head, place) if place < before else (tail, place - before)
    return pa.table([pc.list_element(side, element), pc.list_element(tail, 0)], schema=_COLUMNS)


def _pieces(text: pa.LargeStringArray, tabs: int, reverse: bool = False) -> pa.ListArray:
    """Split texts at the first (or last) ``tabs`` tabs; null where there are fewer."""
    pieces = pc.split_pattern(text, "\t", max_splits=tabs, reverse=reverse)
    few = pc.fill_null(pc.less_equal(pc.list_value_length(pieces), tabs), True)
    return pa.ListArray.from_arrays(pieces.offsets, pieces.values, mask=few)


def _csv_tables(blocks: Iterator[bytes], columns: list[str]) -> Iterator[pa.Table]:
    url, caption = columns.index("url"), columns.index("caption")
    rows: dict[str, list[str | None]] = {"url": [], "caption": []}
    size = 0
    lines = (line for block in blocks for line in block.removesuffix(b"\n").split(b"\n"))
    for fields in csv_rows(lines, MAX_ROW_BYTES):
        good = fields if fields is not None and len(fields) == len(columns) else None
        rows["url"].append(good[url] if good else None)
        rows["caption"].append(good[caption] if good else None)
        size += len(good[url]) + len(good[caption]) if good else 1
        if size > _BLOCK or len(rows["url"]) == _BLOCK_ROWS:
            yield pa.table(rows, schema=_COLUMNS)
            rows, size = {"url": [], "caption": []}, 0
    yield pa.table(rows, schema=_COLUMNS)


def _parquet_tables(path: str | Path, columns: list[str], first: bool) -> Iterator[pa.Table]:
    schema = pq.read_schema(path)
    names = schema.names
    if {"url", "caption"} <= set(names):
        selected = ["url", "caption"]
    elif len(names) == len(columns):
        selected = [names[columns.index(name)] for name in ("url", "caption")]
    else:
        raise StepError(
            f"{path} has the columns {','.join(names)}; list all of them in order in the "
            "'columns' of the source, calling two of them url and caption"
        )
    for name in selected:
        types = [field.type for field in schema if field.name == name]
        types = [type.value_type if pa.types.is_dictionary(type) else type for type in types]
        if len(types) > 1 or types[0] not in _TEXT:
            raise StepError(
                f"column {name!r} of {path} must be one text column, got "
                f"{' and '.join(map(str, types))}"
            )
    # Keep dictionaries encoded until their size is checked: 4 MB can expand to 10^9 long rows.
    with pq.ParquetFile(path, read_dictionary=selected, pre_buffer=False) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise _TooLarge(f"has {file.metadata.num_rows} rows, more than {MAX_ROWS}")
        rows = 0
        size = _FIRST_ROWS if first else _BLOCK_ROWS
        for batch in file.iter_batches(batch_size=size, columns=selected):
            rows += len(batch)
            yield pa.table([_values(batch[name]) for name in selected], schema=_COLUMNS)
            if first:
                return
    if rows != file.metadata.num_rows:
        raise StepError(
            f"the footer of {path} declares {file.metadata.num_rows} rows, but the file has "
            f"{rows}; download it again"
        )


def _values(array: pa.DictionaryArray) -> pa.LargeStringArray:
    """Return the texts of a column, with "" for nulls and null for texts that are too long."""
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    values = array.dictionary.cast(pa.large_binary())
    fits = pc.less_equal(pc.binary_length(values), MAX_ROW_BYTES)
    values = pc.if_else(fits, values, pa.scalar(b"", values.type))
    lengths = pc.sum(pc.take(pc.binary_length(values), array.indices)).as_py() or 0
    if lengths > MAX_BYTES:
        raise _TooLarge(f"has more than {MAX_BYTES} bytes of text")
    texts = pc.fill_null(pc.take(_text(values), array.indices), "")
    too_long = pc.fill_null(pc.invert(pc.take(fits, array.indices)), False)
    return pc.if_else(too_long, pa.scalar(None, texts.type), texts)
