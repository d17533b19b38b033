"""Tables and pictures within self-contained HTML pages, whose style is that of common/html.py."""

import base64
import html
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from workflow_scripts.common.html import document


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
        f'<figure><img alt="{html.escape(alt)}" width="{shown.width}" '
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
