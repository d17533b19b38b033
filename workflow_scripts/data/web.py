"""Download one large file over HTTP or HTTPS, resuming partial downloads."""

import errno
import http.client
import json
import math
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
# The decompressed size is limited separately (lists.py).
MAX_BYTES = 8 << 30
_SILENCE = 60.0  # seconds
_TRIES = 5
_USER_AGENT = "Python-urllib"
_BEYOND_THE_END = 416
_TRANSIENT = (408, 429)  # "request timeout", "too many requests"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
# The URL of the list is chosen by the user and may be at any address.
_EVERYWHERE = parse_networks(["0.0.0.0/0", "::/0"])


class _RefusedError(Exception):
    """The server responded with an error status."""

    def __init__(self, status: int, reason: str):
        super().__init__(f"{status} {reason}".strip())
        self.transient = status >= 500 or status in _TRANSIENT


def fetch(url: str, path: str | Path, pause: float = 1.0) -> Path:
    """Download the file at ``url`` to ``path``, resuming a partial download.

    A partial file is completed only if the server confirms that its file has not changed (by ETag
    or Last-Modified, which are kept in a ``.json`` next to ``path``); otherwise the download starts
    over. Transient errors are retried after ``pause`` seconds, doubled after each attempt.

    Raises:
        StepError: The URL cannot be fetched.
        OSError: The disk is full or not writable.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(pause)
            pause *= 2
        try:
            _fetch_rest(url, path)
            return path
        except (_RefusedError, BadRedirectError, TooManyBytesError) as error:
            reason = str(error)
            if not getattr(error, "transient", False):
                break
        except (http.client.InvalidURL, ValueError) as error:
            raise StepError(f"{url} is not a valid URL ({error})") from error
        except (http.client.HTTPException, OSError) as error:
            if getattr(error, "errno", None) in _DISK_ERRORS:
                raise
            reason = str(error) or type(error).__name__
    raise StepError(
        f"{url} could not be fetched ({reason}); check the URL and the network, and run the step "
        "again (the partial download is kept)"
    )


def _fetch_rest(url: str, path: Path) -> None:
    """Request the missing part of the file, or all of it, and write it."""
    note = path.with_name(f"{path.name}.json")
    size = path.stat().st_size if path.exists() else 0
    try:
        saved = json.loads(note.read_text())
    except (OSError, ValueError):
        saved = {}
    headers = {"User-Agent": _USER_AGENT}
    if size and saved.get("url") == redact(url) and saved.get("validator"):
        headers |= {"Range": f"bytes={size}-", "If-Range": saved["validator"]}
    allowance = Allowance(silence=_SILENCE, deadline=math.inf, size=MAX_BYTES)
    # In a URL, user name and password are percent-encoded.
    user, _, password = urlsplit(url).netloc.rpartition("@")[0].partition(":")
    login = f"{unquote(user)}:{unquote(password)}" if user else ""
    with Client(_EVERYWHERE, headers, login).open(url, allowance) as response:
        content_range = response.headers.get("Content-Range", "")
        if response.status == _BEYOND_THE_END:
            if content_range.rpartition("/")[2] == str(size):
                return
            path.unlink(missing_ok=True)
            raise http.client.IncompleteRead(b"")
        if response.status not in (200, 206):
            raise _RefusedError(response.status, response.reason)
        appending = response.status == 206
        if not appending:
            # The part of another version must not be continued with that of this one.
            path.unlink(missing_ok=True)
        elif content_range.startswith(f"bytes {size}-"):
            allowance.received += size
        else:
            # The server sent a different range than requested.
            path.unlink(missing_ok=True)
            raise http.client.IncompleteRead(b"")
        write_json(note, {"url": redact(url), "validator": _validator(response.headers)})
        with path.open("ab") as file:
            _copy(response, file, url)
        whole = content_range.rpartition("/")[2]
        if appending and whole.isdigit() and path.stat().st_size != int(whole):
            raise http.client.IncompleteRead(b"")


def _validator(headers) -> str | None:
    """Return the ETag if it is strong, otherwise Last-Modified."""
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
