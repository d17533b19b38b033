"""Reads lists of URLs and captions (TSV, CSV, Parquet) block by block, within limits.

No more than a few blocks are in memory at a time.

A malformed row is counted and costs nothing but itself. A list that unpacks to more rows or bytes
than the limits below is refused, whatever the size of its file.
"""

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
from workflow_scripts.common.threads import in_order
from workflow_scripts.data.csv_rows import csv_rows, fields_of

FORMATS = ("tsv", "csv", "parquet")
# Four times CC12M, and more.
MAX_ROWS = 100_000_000
MAX_BYTES = 8 << 30  # of text, unpacked
MAX_ROW_BYTES = 1 << 20
_BLOCK = 4 << 20  # bytes: so much and what is made of it stays in the caches
_BLOCK_ROWS = 1 << 16
_NEWLINE = 10
_FIRST_ROWS, _FIRST_BYTES = 1000, 1 << 18
_TEXT = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_COLUMNS = pa.schema([("url", pa.large_string()), ("caption", pa.large_string())])
SCHEMA = _COLUMNS.insert(0, pa.field("row", pa.int64()))


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
    path: str | Path, format: str, columns: list[str], header: bool, threads: int = 1
) -> Iterator[tuple[pa.Table, int]]:
    """Read a list.

    Args:
        path: A file, as it is or with gzip (``.gz``).
        format: One of ``FORMATS``. In a TSV, quotes mean nothing and tabs beyond the last column
            belong to the caption. A CSV is quoted as in RFC 4180; a row whose quote is not closed
            within ``csv_rows.MAX_ROW_LINES`` lines, or is closed in the middle of a field, is its
            first line only, malformed. Bytes that are not UTF-8 become U+FFFD.
        columns: Names of all columns in order, ``url`` and ``caption`` among them. In a Parquet
            file, columns that have these names already are taken wherever they stand.
        header: The first line of a TSV or CSV names the columns.
        threads: That parse blocks while the caller works on those before.

    Yields:
        The well-formed rows of a block - ``row`` (int64, counted from 0, without the header),
        ``url``, ``caption`` - and how many rows it has with the malformed ones. Malformed are rows
        with another number of columns, without a URL, longer than ``MAX_ROW_BYTES``, and those
        with a NUL or (unless it is quoted) a carriage return that does not end the line.

    Raises:
        StepError: The file is not there, or not of that format, or its columns are others, or
            it has no rows, or more than ``MAX_ROWS`` rows or ``MAX_BYTES`` bytes.
    """
    return _read(path, format, columns, header, first=False, threads=threads)


def first_rows(
    path: str | Path, format: str, columns: list[str], header: bool
) -> tuple[pa.Table, int]:
    """Return the well-formed ones of a list's first rows, and how many rows these are.

    Raises:
        StepError: As :func:`read_list`.
    """
    tables, rows = zip(*_read(path, format, columns, header, first=True, threads=1), strict=True)
    return pa.concat_tables(tables), sum(rows)


def _read(
    path: str | Path, format: str, columns: list[str], header: bool, *, first: bool, threads: int
) -> Iterator[tuple[pa.Table, int]]:
    missing = {"url", "caption"} - set(columns)
    if missing:
        raise StepError(f"--columns {','.join(columns)} does not say which is the {missing.pop()}")
    try:
        if format == "parquet":
            yield from _number(path, _parquet_tables(path, columns, first), _with_url, threads)
            return
        _check_begin(path, format, columns, header)
        with pa.input_stream(str(path), compression="detect") as stream:
            begin = io.BytesIO(_begin(stream)) if first else stream
            blocks = _whole_lines(begin, header)
            if format == "tsv":
                yield from _number(path, blocks, partial(_tsv_table, columns=columns), threads)
            else:
                yield from _number(path, _csv_tables(blocks, columns), _with_url, threads)
    except FileNotFoundError as error:
        raise StepError(f"there is no list {path}; give its path or URL") from error
    except PermissionError:
        raise
    except _TooLarge as error:
        raise StepError(f"{path} {error}; split it into several lists") from error
    # Arrow's errors are of many kinds, and hostile names of columns cannot be decoded.
    except (pa.ArrowException, OSError, UnicodeError) as error:
        reason = str(error).partition("\n")[0]
        raise StepError(f"{path} is not a {format} list that can be read: {reason}") from error


class _TooLarge(Exception):
    pass


def _number(
    path: str | Path,
    blocks: Iterable[Any],
    parse: Callable[[Any], tuple[pa.Table, int]],
    threads: int,
) -> Iterator[tuple[pa.Table, int]]:
    """Parse blocks, and number their rows from the beginning of the list."""
    rows, size = 0, 0
    parsed = in_order(parse, blocks, threads)
    for table, count in tqdm(parsed, "read", unit=" blocks", mininterval=5, delay=5):
        numbers = pc.add(table["row"], pa.scalar(rows))
        rows, size = rows + count, size + table.nbytes
        if rows > MAX_ROWS or size > MAX_BYTES:
            raise _TooLarge(f"has more than {MAX_ROWS} rows or {MAX_BYTES} bytes of text")
        yield table.set_column(0, "row", numbers), count
    if not rows:
        raise StepError(f"{path} has no rows; give a list of URLs and captions")


def _with_url(table: pa.Table) -> tuple[pa.Table, int]:
    """Number a block's rows, and leave out those without a URL or a caption.

    Blanks around a URL are not part of it.
    """
    url = pc.utf8_trim_whitespace(table["url"])
    good = pc.and_(pc.greater(pc.binary_length(url), 0), pc.is_valid(table["caption"]))
    numbers = pa.array(np.arange(len(table)))
    numbered = pa.table([numbers, url, table["caption"]], schema=SCHEMA)
    return numbered.filter(good), len(table)


def _begin(stream: io.BufferedIOBase) -> bytes:
    text = stream.read(_FIRST_BYTES)
    return text.rpartition(b"\n")[0] or text if len(text) == _FIRST_BYTES else text


def _check_begin(path: str | Path, format: str, columns: list[str], header: bool) -> None:
    """Refuse a list whose first bytes tell that it would be misread from there on."""
    with pa.input_stream(str(path), compression="detect") as stream:
        begin = stream.read(MAX_ROW_BYTES)
    if begin.startswith(_UTF16):
        raise StepError(f"{path} is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)")
    if begin.count(b"\r") > 1 and b"\n" not in begin:
        raise StepError(
            f"the lines of {path} end in carriage returns only; convert it (tr '\\r' '\\n')"
        )
    if not header:
        return
    line = begin.partition(b"\n")[0].rstrip(b"\r").decode("utf-8-sig", "replace")
    names = line.split("\t") if format == "tsv" else fields_of(line, MAX_ROW_BYTES) or []
    if {"url", "caption"} <= set(names) and names != columns:
        raise StepError(
            f"the first line of {path} says {','.join(names)}, but --columns says "
            f"{','.join(columns)}; make them agree"
        )


def _whole_lines(stream: io.BufferedIOBase, header: bool) -> Iterator[bytes]:
    """Yield the stream in blocks that end where a line ends, without mark and header line.

    Of a line longer than ``MAX_ROW_BYTES`` no more is kept than shows that it is.
    """
    rest, first, size = b"", True, 0
    while True:
        piece = stream.read(_BLOCK)
        size += len(piece)
        if size > MAX_BYTES:
            raise _TooLarge(f"unpacks to more than {MAX_BYTES} bytes")
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
    """Cut a block into lines without a loop: Arrow's text is offsets into one buffer.

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
    # Few blocks have such lines, and looking into each line takes longer than all else.
    if b"\0" in block or b"\r" in block:
        bad = pc.or_(bad, pc.match_substring_regex(text, r"[\r\x00]"))
    return _null_where(bad, text)


def _null_where(bad: pa.BooleanArray, text: pa.LargeStringArray) -> pa.LargeStringArray:
    return pc.if_else(bad, pa.scalar(None, text.type), text) if bad.true_count else text


def _text(array: pa.LargeBinaryArray) -> pa.LargeStringArray:
    """Return the text of bytes that should be UTF-8; others become U+FFFD."""
    try:
        return array.cast(pa.large_string())
    except pa.ArrowInvalid:
        values = (value and value.decode("utf-8", "replace") for value in array.to_pylist())
        return pa.array([value or "" for value in values], pa.large_string())


def _split(lines: pa.LargeStringArray, columns: list[str]) -> pa.Table:
    """Split lines at the tabs that separate columns: all before the caption, all behind it."""
    before = columns.index("caption")
    behind = len(columns) - 1 - before
    head = _pieces(lines, before)
    rest = pc.list_element(head, before)
    tail = _pieces(rest, behind, reverse=True)
    place = columns.index("url")
    side, element = (head, place) if place < before else (tail, place - before)
    return pa.table([pc.list_element(side, element), pc.list_element(tail, 0)], schema=_COLUMNS)


def _pieces(text: pa.LargeStringArray, tabs: int, reverse: bool = False) -> pa.ListArray:
    """Split texts at so many tabs, from one end; null where there are fewer."""
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
        wanted = ["url", "caption"]
    elif len(names) == len(columns):
        wanted = [names[columns.index(name)] for name in ("url", "caption")]
    else:
        raise StepError(
            f"{path} has the columns {','.join(names)}; say with --columns, in this order, "
            "which is the url and which the caption"
        )
    for name in wanted:
        types = [field.type for field in schema if field.name == name]
        types = [type.value_type if pa.types.is_dictionary(type) else type for type in types]
        if len(types) > 1 or types[0] not in _TEXT:
            raise StepError(
                f"the column {name} of {path} is {' and '.join(map(str, types))}, not text; write "
                "one text in each row"
            )
    # A dictionary is checked before its values are repeated: 4 MB can be 10^9 long rows.
    with pq.ParquetFile(path, read_dictionary=wanted, pre_buffer=False) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise _TooLarge(f"has {file.metadata.num_rows} rows, more than {MAX_ROWS}")
        rows = 0
        size = _FIRST_ROWS if first else _BLOCK_ROWS
        for batch in file.iter_batches(batch_size=size, columns=wanted):
            rows += len(batch)
            yield pa.table([_values(batch[name]) for name in wanted], schema=_COLUMNS)
            if first:
                return
    if rows != file.metadata.num_rows:
        raise StepError(
            f"{path} says that it has {file.metadata.num_rows} rows, but has {rows}; get it again"
        )


def _values(array: pa.DictionaryArray) -> pa.LargeStringArray:
    """Return the texts of a column: "" where there is none, null where one is too long."""
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
