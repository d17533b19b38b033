"""Self-contained HTML pages: one document and one style for all.

Every page works from ``file://`` and without a network. Colours follow the system's light or dark
theme unless the root element has ``data-theme``; all text has a contrast of 4.5 or more (WCAG AA).
"""

import html
import json
import re
from collections.abc import Iterable
from typing import Any

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


class Markup(str):
    """Text that is HTML already; any other is escaped where :func:`element` puts it in."""


def element(tag: str, *inside: object, **attributes: object) -> Markup:
    """Return an element of HTML.

    Args:
        tag: Its name.
        inside: What is in it; all but :class:`Markup` is escaped. ``img`` has nothing in it.
        attributes: Escaped; ``class_`` is ``class``, ``aria_label`` is ``aria-label``, and those
            that are None are left out.
    """
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    end = "" if tag == "img" else f"{joined(inside)}</{tag}>"
    return Markup(f"<{tag}{said}>{end}")


def joined(parts: Iterable[object]) -> Markup:
    """Return parts one after another; all but :class:`Markup` is escaped."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(str(p)) for p in parts))
