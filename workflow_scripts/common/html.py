"""Self-contained HTML pages with a common style.

Pages work from ``file://`` and without a network. Colours follow the system's light or dark theme
unless the root element has ``data-theme``; all text has a contrast ratio of at least 4.5 (WCAG AA).
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
        title: Title of the page; escaped.
        body: HTML of the body.
        style: CSS in addition to :data:`STYLE`.
        scripts: JavaScript sources, inserted as script elements at the end of the page.
    """
    ends = "".join(f"<script>{script_text(text)}</script>\n" for text in scripts)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style></head>\n"
        f"<body>{body}\n{ends}</body></html>\n"
    )


def script_text(text: str) -> str:
    """Escape JavaScript for a script element, so that strings in it cannot close the element."""
    return re.sub(r"<(?=/?script|!--)", r"\\x3c", text, flags=re.IGNORECASE)


def json_element(name: str, value: Any) -> str:
    """Return a script element with id ``name`` that contains ``value`` as JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    text = text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


class Markup(str):
    """A string that is already HTML; :func:`element` escapes all other strings."""


def element(tag: str, *inside: object, **attributes: object) -> Markup:
    """Return an HTML element.

    Args:
        tag: Name of the element.
        inside: Content; everything but :class:`Markup` is escaped. Ignored for ``img``.
        attributes: Attributes, which are escaped. ``class_`` becomes ``class``, ``aria_label``
            becomes ``aria-label``, and None omits an attribute.
    """
    rendered = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    end = "" if tag == "img" else f"{joined(inside)}</{tag}>"
    return Markup(f"<{tag}{rendered}>{end}")


def joined(parts: Iterable[object]) -> Markup:
    """Concatenate parts, escaping everything but :class:`Markup`."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(str(p)) for p in parts))
