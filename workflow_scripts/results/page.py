"""Tables and images in self-contained HTML pages, in the style of common/html.py."""

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from workflow_scripts.common.html import Markup, document, element, joined


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool] | None = None
) -> Markup:
    """Return a table that scrolls horizontally if it is too wide; all texts are escaped.

    Args:
        columns: The column headers.
        rows: The cells of each row.
        marked: Whether each row is highlighted; None: no row is.
    """
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = (
        element("tr", *(element("td", cell) for cell in cells), class_="marked" if mark else None)
        for cells, mark in zip(rows, marked or [False] * len(rows), strict=True)
    )
    inside = element("table", element("thead", head), element("tbody", *body))
    return element("div", inside, class_="scroll", tabindex="0")


def paragraphs(texts: Iterable[str]) -> Markup:
    """Return one paragraph per text; all texts are escaped."""
    return joined(element("p", text) for text in texts)


def picture(path: Path, alt: str, *, caption: str = "", width: int = 1000) -> Markup:
    """Return an image embedded as WebP, scaled down to at most ``width`` pixels.

    Args:
        path: An image file in any format that Pillow reads.
        alt: The alternative text; escaped.
        caption: The text below the image; escaped.
        width: Maximum width in pixels.
    """
    with Image.open(path) as original:
        shown = original.convert("RGB")
        shown.thumbnail((width, 20 * width))
        buffer = BytesIO()
        shown.save(buffer, "WEBP", quality=80)
    data = base64.b64encode(buffer.getvalue()).decode()
    source = f"data:image/webp;base64,{data}"
    image = element("img", alt=alt, width=shown.width, height=shown.height, src=source)
    return element("figure", image, element("figcaption", caption) if caption else "")


def table_page(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    marked: Sequence[bool] | None = None,
    above: Iterable[str] = (),
    below: Iterable[str] = (),
) -> str:
    """Return a self-contained HTML page with one table; all texts are escaped.

    Args:
        title: The page's title.
        columns: The column headers.
        rows: The cells of each row.
        marked: Whether each row is highlighted; None: no row is.
        above: Paragraphs above the table.
        below: Paragraphs below it.
    """
    return document(
        title, joined([paragraphs(above), table(columns, rows, marked), paragraphs(below)])
    )


def tables_page(
    title: str,
    tables: Iterable[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
    *,
    below: Iterable[str] = (),
) -> str:
    """Return a self-contained HTML page with several tables; all texts are escaped.

    Args:
        title: The page's title.
        tables: Title, column headers and cells of each table.
        below: Paragraphs below the last table.
    """
    parts = [joined([element("h2", name), table(columns, rows)]) for name, columns, rows in tables]
    return document(title, joined([*parts, paragraphs(below)]))
