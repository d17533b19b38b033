"""Building blocks of the audit's page: sections, paragraphs, tables and small images."""

from collections.abc import Sequence

from workflow_scripts.common.html import Markup, element


def table(
    columns: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    numbers: Sequence[int] = (),
    words: Sequence[int] = (),
    caption: str | None = None,
) -> Markup:
    """Return a table; columns ``numbers`` are right-aligned, texts in columns ``words`` wrap."""
    kinds = [
        "number" if n in numbers else "words" if n in words else None for n in range(len(columns))
    ]

    def line(tag: str, cells: Sequence[object]) -> Markup:
        scope = "col" if tag == "th" else None
        pairs = zip(cells, kinds, strict=True)
        return element("tr", *(element(tag, c, class_=k, scope=scope) for c, k in pairs))

    head = element("thead", line("th", columns)) if any(columns) else ""
    above = element("caption", caption) if caption else ""
    body = element("tbody", *(line("td", cells) for cells in rows))
    return element("div", element("table", above, head, body), class_="scroll", tabindex="0")


def picture(png: str, alt: str) -> Markup:
    """Return an image from a base64-encoded PNG, with the alternative text ``alt``."""
    return element("img", src=f"data:image/png;base64,{png}", alt=alt, loading="lazy")


def section(title: str, *inside: object) -> Markup:
    """Return a section with its title."""
    return element("section", element("h2", title), *inside)


def paragraph(*words: object, class_: str | None = None) -> Markup:
    """Return a paragraph."""
    return element("p", *words, class_=class_)
