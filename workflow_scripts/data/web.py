"""Downloads one large file over HTTP or HTTPS, resuming where an earlier attempt ended."""

import errno
import http.client
import json
import math
import time
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import write_json
from workflow_scripts.common.redact import redact
from workflow_scripts.data.addresses import parse_networks
from workflow_scripts.data.client import (
    Allowance,
    BadRedirectError,
    Client,
    TooManyBytesError,
)

_CHUNK = 1 << 20
# No list is larger: what it unpacks to is limited as well (lists.py).
MAX_BYTES = 8 << 30
_SILENCE = 60.0  # seconds
_TRIES = 5
_USER_AGENT = "Python-urllib"
_BEYOND_THE_END = 416
_PASSING = (408, 429)  # "request timeout", "too many requests"
_OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
# The list's URL is the user's own choice, wherever it leads.
_EVERYWHERE = parse_networks(["0.0.0.0/0", "::/0"])


class _RefusedError(Exception):
    """The server answered, but not with the file."""

    def __init__(self, status: int, reason: str):
        super().__init__(f"{status} {reason}".strip())
        self.passing = status >= 500 or status in _PASSING


def fetch(url: str, path: str | Path, pause: float = 1.0) -> Path:
    """Download the file at ``url`` to ``path``, resuming what an earlier attempt left there.

    A partial file is completed only if the server confirms that its file has not changed (ETag or
    Last-Modified, noted in a ``.json`` beside ``path``); otherwise the download starts again. A
    connection that breaks is retried after ``pause`` seconds, which double each time.

    Raises:
        StepError: The URL cannot be fetched.
        OSError: The disk is full, or cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(_TRIES):
        try:
            _go_on(url, path)
            return path
        except (_RefusedError, BadRedirectError, TooManyBytesError) as error:
            trouble = str(error)
            if not getattr(error, "passing", False):
                break
        except (http.client.InvalidURL, ValueError) as error:
            raise StepError(f"{url} is not a URL that can be fetched ({error})") from error
        except (http.client.HTTPException, OSError) as error:
            if getattr(error, "errno", None) in _OUR_DISK:
                raise
            trouble = str(error) or type(error).__name__
        time.sleep(pause)
        pause *= 2
    raise StepError(
        f"{url} could not be fetched ({trouble}); check the URL and the network and run again, "
        "what has come so far is kept"
    )


def _go_on(url: str, path: Path) -> None:
    """Ask for the rest of the file, or for all of it, and write what comes."""
    note = path.with_name(f"{path.name}.json")
    there = path.stat().st_size if path.exists() else 0
    try:
        seen = json.loads(note.read_text())
    except (OSError, ValueError):
        seen = {}
    headers = {"User-Agent": _USER_AGENT}
    if there and seen.get("url") == redact(url) and seen.get("validator"):
        headers |= {"Range": f"bytes={there}-", "If-Range": seen["validator"]}
    allowance = Allowance(silence=_SILENCE, deadline=math.inf, size=MAX_BYTES)
    with Client(_EVERYWHERE, headers).open(url, allowance) as response:
        answered = response.headers.get("Content-Range", "")
        if response.status == _BEYOND_THE_END:
            if answered.rpartition("/")[2] == str(there):
                return
            path.unlink(missing_ok=True)
            raise http.client.IncompleteRead(b"")
        if response.status not in (200, 206):
            raise _RefusedError(response.status, response.reason)
        appending = response.status == 206
        if appending and not answered.startswith(f"bytes {there}-"):
            # Another part of the file than the one that is missing.
            path.unlink(missing_ok=True)
            raise http.client.IncompleteRead(b"")
        write_json(note, {"url": redact(url), "validator": _validator(response.headers)})
        with path.open("ab" if appending else "wb") as file:
            _copy(response, file, url)
        whole = answered.rpartition("/")[2]
        if appending and whole.isdigit() and path.stat().st_size != int(whole):
            raise http.client.IncompleteRead(b"")


def _validator(headers) -> str | None:
    """Return what tells this version of the file from others; weak ETags do not."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _copy(response: http.client.HTTPResponse, file, url: str) -> None:
    name = urlsplit(url).path.rpartition("/")[2] or "list"
    with tqdm(
        desc=name, total=response.length, unit="B", unit_scale=True, mininterval=5
    ) as progress:
        while piece := response.read1(_CHUNK):
            file.write(piece)
            progress.update(len(piece))
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
