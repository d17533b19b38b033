"""Escaping of untrusted text in Markdown."""

import re


def markdown_text(value: object) -> str:
    """Return a value as one line of Markdown: HTML, links, images, code and ``|`` are escaped."""
    return re.sub(r"([\\|\[\]`]|<(?=[a-zA-Z/!?]))", r"\\\1", " ".join(str(value).splitlines()))
