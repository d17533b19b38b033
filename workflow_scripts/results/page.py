"""A table as a page of its own, for browsers and for the report."""

import html
from collections.abc import Iterable, Sequence

_STYLE = (
    "body{font:14px/1.45 sans-serif;color:#222;background:#fff;margin:1.5em}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.4em .7em;text-align:left;border-bottom:1px solid #ddd}"
    "th{border-bottom:2px solid #222;vertical-align:bottom;max-width:13em}"
    "td{white-space:nowrap}tr.marked td{background:#fdf0d5}"
    "p{max-width:60em}"
)


def table_page(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    marked: Sequence[bool] | None = None,
    above: Iterable[str] = (),
    below: Iterable[str] = (),
) -> str:
    """Return a self-contained HTML page; every text is escaped.

    Args:
        title: The page's title.
        columns: The heads.
        rows: The cells of each row.
        marked: For each row, whether it has a coloured ground; None: none has.
        above: Paragraphs above the table.
        below: Paragraphs below it.
    """
    body = _table(columns, rows, marked)
    return _page(title, f"{_paragraphs(above)}\n{body}\n{_paragraphs(below)}")


def tables_page(
    title: str,
    tables: Iterable[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    *,
    below: Iterable[str] = (),
) -> str:
    """Return a self-contained HTML page of several tables; every text is escaped.

    Args:
        title: The page's title.
        tables: Title, heads and cells of each.
        below: Paragraphs below the last.
    """
    parts = [f"<h2>{html.escape(name)}</h2>\n{_table(heads, rows)}" for name, heads, rows in tables]
    return _page(title, "\n".join([*parts, _paragraphs(below)]))


def _page(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body>{body}</body></html>\n"
    )


def _table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] | None = None
) -> str:
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "\n".join(
        ('<tr class="marked">' if mark else "<tr>")
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for cells, mark in zip(rows, marked or [False] * len(rows), strict=True)
    )
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _paragraphs(texts: Iterable[str]) -> str:
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts)
