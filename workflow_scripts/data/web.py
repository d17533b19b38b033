"""HTTP and HTTPS and nothing else: an opener, and a fetch that goes on where it ended."""

import errno
import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import write_json
from workflow_scripts.common.redact import redact

_CHUNK = 1 << 20
_TIMEOUT = 60.0  # seconds of silence
_TRIES = 5
_PASSING = (408, 429)  # "request timeout", "too many requests"
_OUR_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects, but only to http and https: Python's own handler also allows ftp."""

    def redirect_request(self, req, fp, code, *rest):
        _, headers, url = rest
        if urlsplit(url).scheme not in ("http", "https"):
            raise urllib.error.HTTPError(url, code, f"redirected to {url}", headers, fp)
        return super().redirect_request(req, fp, code, *rest)


class _Proxies(urllib.request.ProxyHandler):
    """The proxies of ``http_proxy`` and its kin, but never for this machine's own servers."""

    def proxy_open(self, req, proxy, type):
        if urlsplit(f"//{req.host}").hostname in _LOOPBACK:
            return None
        return super().proxy_open(req, proxy, type)


def make_opener() -> urllib.request.OpenerDirector:
    """Return what opens http and https URLs; ``file:``, ``ftp:`` and ``data:`` it cannot open."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Proxies,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def fetch(url: str, path: str | Path, pause: float = 1.0) -> Path:
    """Bring the file at ``url`` to ``path``, going on from what an earlier try left there.

    What is there is completed, or found complete, only if the server says that its file is still
    the same (ETag or Last-Modified, noted in a ``.json`` beside ``path``); otherwise it is
    fetched anew. A connection that breaks is tried again, after ``pause`` seconds and then longer.

    Raises:
        StepError: The URL cannot be had.
        OSError: The disk is full, or cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = make_opener()
    for _ in range(_TRIES):
        try:
            _go_on(opener, url, path)
            return path
        except urllib.error.HTTPError as error:
            trouble = f"{error.code} {error.reason}"
            if error.code not in _PASSING and error.code < 500:
                break
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            if getattr(error, "errno", None) in _OUR_DISK:
                raise
            trouble = str(getattr(error, "reason", error)) or type(error).__name__
        except ValueError as error:
            raise StepError(f"{url} is not a URL that can be fetched ({error})") from error
        time.sleep(pause)
        pause *= 2
    raise StepError(
        f"{url} could not be fetched ({trouble}); check the URL and the network and run again, "
        "what has come so far is kept"
    )


def _go_on(opener: urllib.request.OpenerDirector, url: str, path: Path) -> None:
    """Ask for the rest of the file, or for all of it, and write what comes."""
    note = path.with_name(f"{path.name}.json")
    there = path.stat().st_size if path.exists() else 0
    try:
        seen = json.loads(note.read_text())
    except (OSError, ValueError):
        seen = {}
    request = urllib.request.Request(url)
    if there and seen.get("url") == redact(url) and seen.get("validator"):
        request.add_header("Range", f"bytes={there}-")
        request.add_header("If-Range", seen["validator"])
    try:
        response = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        whole = error.headers.get("Content-Range", "").rpartition("/")[2]
        if error.code == 416 and whole == str(there):
            return
        if error.code == 416:
            path.unlink()
            raise http.client.IncompleteRead(b"") from error
        raise
    with response:
        starts = response.headers.get("Content-Range", "").startswith(f"bytes {there}-")
        appending = response.status == 206 and starts
        write_json(note, {"url": redact(url), "validator": _validator(response.headers)})
        with path.open("ab" if appending else "wb") as file:
            _copy(response, file, url)


def _validator(headers) -> str | None:
    """Return what tells this version of the file from others; weak ETags do not."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _copy(response: http.client.HTTPResponse, file, url: str) -> None:
    name = urlsplit(url).path.rpartition("/")[2] or url
    with tqdm(
        desc=name, total=response.length, unit="B", unit_scale=True, mininterval=5
    ) as progress:
        while piece := response.read1(_CHUNK):
            file.write(piece)
            progress.update(len(piece))
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
