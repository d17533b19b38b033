"""Remove secrets from logs, records, errors and the crate."""

import os
import re
from typing import Any

HIDDEN = "***"
_WORDS = r"(?:token|password|passwd|secret|credentials?|api[_-]?key|access[_-]?key)"
_SECRET = re.compile(rf"(?i)(^|.*[_\W]){_WORDS}")
_PAIR = re.compile(rf"(?i)({_WORDS}[\"']?\s*[:=]\s*)(?:([\"']).*?\2|[^\s,;&}}\"']+)")
_USER = re.compile(r"(?<=://)[^/\s?#]*@")
_QUERY = re.compile(r"(://[^\s?#\"<>]*[?#])([^\s\"<>]+)")
# Shorter values of environment variables may be ordinary words.
_SHORTEST = 8


def redact(value: Any) -> Any:
    """Return a text or a JSON value with secrets replaced by ``HIDDEN``.

    Secrets are credentials and query values in URLs, values of keys such as ``token`` or
    ``api_key``, and values of environment variables with such names (``WANDB_API_KEY``).
    """
    if isinstance(value, dict):
        return {
            key: HIDDEN if item is not None and _SECRET.fullmatch(str(key)) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    for name, secret in os.environ.items():
        if len(secret) >= _SHORTEST and _SECRET.fullmatch(name):
            text = text.replace(secret, HIDDEN)
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(lambda found: found[1] + _query(found[2]), text)
    return _PAIR.sub(lambda found: f"{found[1]}{found[2] or ''}{HIDDEN}{found[2] or ''}", text)


def _query(query: str) -> str:
    return re.sub(r"=[^&;]*", f"={HIDDEN}", query) if "=" in query else HIDDEN
