"""Self-contained HTML pages: one document, one style, tables and pictures within it.

Every page works from ``file://`` and without a network. Colours follow the system's light or dark
theme unless the root element has ``data-theme``; all text has a contrast of 4.5 or more (WCAG AA).
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

_DARK = (
    "--ground:#14171a;--raised:#1d2125;--ink:#e8eaed;--faint:#a6adb5;--line:#363c43;"
    "--link:#7db8f0;--mark:#4a3a12;--good:#7fd1a0;--bad:#f2a097;--unsure:#e0c070;color-scheme:dark"
)
STYLE = (
    ":root{--ground:#fff;--raised:#f6f7f8;--ink:#1c1f23;--faint:#5a626b;--line:#d9dde1;"
    "--link:#0b5cad;--mark:#fdf0d5;--good:#14693a;--bad:#a82315;--unsure:#7a5500;"
    "color-scheme:light}"
    f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{{_DARK}}}}}"
    f":root[data-theme=dark]{{{_DARK}}}"
    "*{box-sizing:border-box}"
    "body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;"
    "color:var(--ink);background:var(--ground);margin:0 auto;padding:1.2rem;max-width:84rem}"
    "h1{font-size:1.55rem;line-height:1.25;margin:.2em 0 .5em}"
    "h2{font-size:1.2rem;margin:2.2em 0 .6em}h3{font-size:1rem;margin:1.6em 0 .4em}"
    "p,ul,ol{max-width:46rem}a{color:var(--link)}"
    ":focus-visible{outline:2px solid var(--link);outline-offset:2px}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
    "th,td{padding:.35em .7em;text-align:left;border-bottom:1px solid var(--line)}"
    "th{border-bottom:2px solid var(--faint);vertical-align:bottom;max-width:13em}"
    "td{white-space:nowrap}tr.marked td{background:var(--mark)}"
    ".scroll{overflow-x:auto;max-width:100%}"
    "code{font-size:.9em;overflow-wrap:anywhere}"
    "figure{margin:1em 0}figure img{max-width:100%;height:auto;background:#fff}"
    "figcaption,.faint{color:var(--faint);font-size:.9em}"
)


def document(title: str, body: str, *, style: str = "", scripts: Iterable[str] = ()) -> str:
    """Return a self-contained HTML page.

    Args:
        title: The page's title; escaped.
        body: HTML.
        style: CSS beside :data:`STYLE`.
        scripts: JavaScript, each a script element at the page's end.
    """
    ends = "".join(f"<script>{script_text(text)}</script>\n" for text in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style></head>\n"
        f"<body>{body}\n{ends}</body></html>\n"
    )


def script_text(text: str) -> str:
    """Return JavaScript for a script element, which no string within it can end."""
    return re.sub(r"<(?=/?script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def json_element(name: str, value: Any) -> str:
    """Return a script element that holds ``value`` as JSON, to be found by its id ``name``."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] | None = None
) -> str:
    """Return a table that scrolls sideways where it is too wide; every text is escaped.

    Args:
        columns: The heads.
        rows: The cells of each row.
        marked: For each row, whether it has a coloured ground; None: none has.
    """
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in columns)
    body = "\n".join(
        ('<tr class="marked">' if mark else "<tr>")
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for cells, mark in zip(rows, marked or [False] * len(rows), strict=True)
    )
    return (
        '<div class="scroll" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def paragraphs(texts: Iterable[str]) -> str:
    """Return a paragraph for each text; every text is escaped."""
    return "\n".join(f"<p>{html.escape(text)}</p>" for text in texts)


def picture(path: Path, alt: str, *, caption: str = "", width: int = 1000) -> str:
    """Return an image file within the page as WebP, scaled down to ``width`` pixels at most.

    Args:
        path: Any format that Pillow reads.
        alt: What the picture shows, for those who do not see it; escaped.
        caption: A text below it; escaped.
        width: Pixels.
    """
    with Image.open(path) as image:
        shown = image.convert("RGB")
        shown.thumbnail((width, 20 * width))
        buffer = BytesIO()
        shown.save(buffer, "WEBP", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img loading="lazy" alt="{html.escape(alt)}" width="{shown.width}" '
        f'height="{shown.height}" src="data:image/webp;base64,{data}">{below}</figure>'
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
    body = table(columns, rows, marked)
    return document(title, f"{paragraphs(above)}\n{body}\n{paragraphs(below)}")


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
    parts = [f"<h2>{html.escape(name)}</h2>\n{table(heads, rows)}" for name, heads, rows in tables]
    return document(title, "\n".join([*parts, paragraphs(below)]))
