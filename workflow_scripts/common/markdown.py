"""Texts from outside in Markdown."""

import re


def markdown_text(value: object) -> str:
    """Return a text for a cell or a line of Markdown, on one line.

    HTML in it would be obeyed, and a bar would end the cell.
    """
    return re.sub(r"(\||<(?=[a-zA-Z/!?]))", r"\\\1", " ".join(str(value).splitlines()))
