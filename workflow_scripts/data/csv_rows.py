"""Parse a CSV line by line, so that a malformed row does not affect the others."""

import csv
from collections import deque
from collections.abc import Iterator

MAX_ROW_LINES = 100  # lines that a quoted field may span


def csv_rows(lines: Iterator[bytes], longest: int) -> Iterator[list[str] | None]:
    """Yield the fields of each row, or None for a row that is malformed or too long.

    A row is one line, unless a quote is open at its end. If no later line closes the quote, only
    that line counts as malformed, and the lines after it are parsed as rows of their own.

    Args:
        lines: Lines without their line feed.
        longest: Maximum length of a row in bytes.
    """
    ahead: deque[bytes] = deque()
    while True:
        line = ahead.popleft() if ahead else next(lines, None)
        if line is None:
            return
        fields, taken = fields_of(_decode(line), longest), 0
        record = line
        while fields is _OPEN and taken < MAX_ROW_LINES and len(record) <= longest:
            if taken == len(ahead):
                more = next(lines, None)
                if more is None:
                    break
                ahead.append(more)
            record += b"\n" + ahead[taken]
            taken += 1
            # A line without quotes cannot close the open one.
            if b'"' in ahead[taken - 1]:
                fields = fields_of(_decode(record), longest)
        if fields is None or fields is _OPEN or len(record) > longest:
            yield None
        else:
            for _ in range(taken):
                ahead.popleft()
            yield fields


_OPEN: list[str] = ["a quote is open at the end of the text"]


def _decode(record: bytes) -> str:
    return record.removesuffix(b"\r").decode("utf-8", "replace")


def fields_of(text: str, longest: int) -> list[str] | None:
    """Return the fields of a CSV row, ``_OPEN`` if a quote is open, None if it is malformed."""
    if "\0" in text or len(text) > longest:
        return None
    csv.field_size_limit(longest)
    try:
        return next(csv.reader([text], strict=True), None)
    except csv.Error as error:
        return _OPEN if str(error) == "unexpected end of data" else None
