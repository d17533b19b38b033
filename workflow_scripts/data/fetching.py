"""Img2dataset's downloader with three changes: what it opens, how it resizes, how it writes.

As published (1.47) it opens whatever a URL leads to, reads without a limit, decodes in the process
that downloads, writes samples in the order in which they happen to arrive, and loses a sample that
it could not write to a full disk. Everything else is img2dataset's own.
"""

import contextlib
import functools
import http.client
import io
import json
import math
import threading
import time
from pathlib import Path
from typing import Any

from img2dataset import downloader as published
from img2dataset.writer import WebDatasetSampleWriter

from workflow_scripts.data import reasons
from workflow_scripts.data.addresses import PrivateAddressError, parse_networks
from workflow_scripts.data.client import (
    Allowance,
    BadRedirectError,
    Client,
    TooManyBytesError,
)
from workflow_scripts.data.resizing import Resizer

_PIECE = 1 << 16
# One try may take so many times the time-out of a single read; a server that sends a byte now and
# then would otherwise hold a thread for ever.
_PATIENCE = 6
# Bodies that a process holds at a time, over all its threads. One body may exceed it.
_BODIES = 256 << 20
_USER_AGENT = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0"
_SHARD_DIGITS = 5
_ROBOTS = ["noai", "noimageai", "noindex", "noimageindex"]
_downloader: "Downloader | None" = None
_progress: Any = None


class _Lost(Exception):
    """A row that comes to nothing, and why."""

    def __init__(self, reason: str, detail: object = "", again: bool = False):
        super().__init__(f"{reason}: {detail}" if str(detail) else reason)
        self.again = again


class Budget:
    """Bytes that all threads of a process share; who asks for more than is left waits.

    One body at a time may exceed the budget, so that bodies that all wait for more cannot block
    each other.
    """

    def __init__(self, size: int):
        self._size, self._used = size, 0
        self._exceeding: object = None
        self._changed = threading.Condition()

    def take(self, owner: object, size: int) -> float:
        """Take ``size`` bytes for ``owner``.

        Returns:
            How long that took, in seconds.
        """
        begun = time.monotonic()
        with self._changed:
            while self._used + size > self._size and self._exceeding not in (None, owner):
                self._changed.wait()
            if self._used + size > self._size:
                self._exceeding = owner
            self._used += size
        return time.monotonic() - begun

    def give_back(self, owner: object, size: int) -> None:
        """Return all ``size`` bytes that ``owner`` has taken."""
        with self._changed:
            self._used -= size
            if self._exceeding is owner:
                self._exceeding = None
            self._changed.notify_all()


class _Body(io.BytesIO):
    """A body in memory that gives its bytes back when it is closed."""

    def __init__(self, content: bytes, give_back: Any):
        super().__init__(content)
        self._give_back = give_back

    def close(self) -> None:
        if not self.closed:
            self._give_back()
        super().close()


def begin(settings: dict[str, Any], progress: Any) -> None:
    """Make this process ready to download, with the options of download.py.

    ``progress`` is a shared integer that counts the rows that are done with.
    """
    global _downloader, _progress  # noqa: PLW0603 - a worker process has one of each
    _progress = progress
    _downloader = Downloader(
        client=Client(parse_networks(settings["allow_private"]), {"User-Agent": _USER_AGENT}),
        max_bytes=settings["max_bytes"],
        sample_writer_class=functools.partial(OrderedWriter, rows_per_tar=settings["rows_per_tar"]),
        resizer=functools.partial(
            _resize,
            Resizer(settings["image_size"], settings["jpeg_quality"], settings["max_pixels"]),
        ),
        thread_count=settings["threads_per_process"],
        save_caption=True,
        extract_exif=False,
        output_folder=settings["output_folder"],
        column_list=["row", "caption", "url"],
        timeout=settings["timeout"],
        number_sample_per_shard=settings["rows_per_tar"],
        oom_shard_count=_SHARD_DIGITS,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format="jpg",
        retries=settings["retries"],
        user_agent_token=None,
        disallowed_header_directives=_ROBOTS,
    )


def download_shard(shard: tuple[int, str]) -> None:
    """Download one shard, given as its number and the file with its rows."""
    assert _downloader is not None  # after begin
    _downloader.download_shard(shard)


class Downloader(published.Downloader):
    """Downloads shards in img2dataset's way, within limits and with reproducible files."""

    def __init__(self, *, client: Client, max_bytes: int, **options: Any):
        super().__init__(**options)
        self._fetch = functools.partial(
            fetch_row, client=client, max_bytes=max_bytes, budget=Budget(_BODIES)
        )

    def download_shard(self, row: tuple[int, str]) -> None:
        """Download one shard, given as its number and the file with its rows."""
        published.download_image_with_retry = self._fetch
        super().download_shard(row)
        stats = Path(self.output_folder) / f"{row[0]:0{self.oom_shard_count}d}_stats.json"
        content = json.loads(stats.read_text())
        for name in ("duration", "start_time", "end_time"):
            del content[name]
        content["status_dict"] = dict(sorted(content["status_dict"].items()))
        stats.write_text(json.dumps(content, indent=4) + "\n")


class OrderedWriter(WebDatasetSampleWriter):
    """Writes a shard's samples in the order of the list, named by their rows, with no dates."""

    def __init__(self, shard_id: int, *rest: Any, rows_per_tar: int):
        super().__init__(shard_id, *rest)
        self.tarwriter.mtime = 0
        # How img2dataset numbers samples: the shard's number, then the place in the shard.
        self._first = shard_id * 10 ** math.ceil(math.log10(rows_per_tar))
        self._waiting: dict[int, tuple] = {}
        self._next = 0
        self._failure: Exception | None = None

    def write(self, img_str: bytes | None, key: str, caption: str, meta: dict) -> None:
        """Take a sample, and write it and those that waited for it."""
        self._waiting[int(key) - self._first] = (img_str, caption, meta)
        # The caller prints exceptions and goes on; the first one is kept for close().
        try:
            while self._next in self._waiting and not self._failure:
                self._write_now(*self._waiting.pop(self._next))
                self._next += 1
        except Exception as error:
            self._failure = error

    def close(self) -> None:
        """Close the shard's files, or raise what went wrong with them (``OSError``: disk full)."""
        if self._failure:
            # The files are given up; that they do not close well either is no news.
            with contextlib.suppress(Exception):
                super().close()
            raise self._failure
        for place in sorted(self._waiting):
            self._write_now(*self._waiting[place])
        super().close()

    def _write_now(self, img_str: bytes | None, caption: str, meta: dict) -> None:
        meta["key"] = f"{meta['row']:09d}"
        super().write(img_str, meta["key"], caption, meta)


def _resize(resizer: Resizer, body: io.BytesIO, boxes: None = None) -> tuple:
    """Resize as img2dataset's own does: JPEG, its width and height, those before, or an error."""
    stored = resizer(body.getvalue())
    if isinstance(stored, str):
        return None, None, None, None, None, stored
    size = resizer.image_size
    return stored.jpeg, size, size, stored.width, stored.height, None


def fetch_row(
    row: tuple[int, str],
    *,
    timeout: float,
    retries: int,
    user_agent_token: str | None,
    disallowed_header_directives: set[str] | None,
    client: Client,
    max_bytes: int,
    budget: Budget,
) -> tuple[int, io.BytesIO | None, str | None]:
    """Return a row's place, its body or nothing, and why there is nothing.

    Whatever a row does is one lost row; nothing is raised but ``MemoryError``.
    """
    place, url = row
    body = lost = None
    for _ in range(retries + 1):
        allowance = Allowance(timeout, time.monotonic() + _PATIENCE * timeout, max_bytes)
        try:
            body = _fetch_once(url, client, allowance, budget, disallowed_header_directives)
            lost = None
            break
        except MemoryError:
            raise
        except Exception as error:
            lost = _why(error)
            if not lost.again:
                break
    if _progress is not None:
        with _progress.get_lock():
            _progress.value += 1
    return place, body, str(lost) if lost else None


def _fetch_once(
    url: str, client: Client, allowance: Allowance, budget: Budget, disallowed: set[str] | None
) -> io.BytesIO:
    with client.open(url, allowance) as response:
        if response.status != 200:
            raise _lost_by_status(response.status)
        if disallowed and published.is_disallowed(response.headers, None, disallowed):
            raise _Lost(reasons.DISALLOWED)
        return _read(response, allowance, budget)


def _why(error: Exception) -> _Lost:
    """Return the reason for which a row is lost."""
    if isinstance(error, _Lost):
        return error
    for kind, reason, again in (
        (TooManyBytesError, reasons.TOO_MANY_BYTES, False),
        (PrivateAddressError, reasons.PRIVATE, False),
        (BadRedirectError, reasons.BAD_REDIRECT, False),
        (TimeoutError, reasons.TIMEOUT, True),
        (http.client.IncompleteRead, reasons.CUT_OFF, True),
        (OSError, reasons.NO_CONNECTION, True),
        ((http.client.InvalidURL, ValueError), reasons.BAD_URL, False),
    ):
        if isinstance(error, kind):
            return _Lost(reason, "" if kind is TimeoutError else error, again)
    # What is no HTTP raises whatever the parser trips over.
    return _Lost(reasons.BAD_ANSWER, error)


def _lost_by_status(status: int) -> _Lost:
    if status in (404, 410):
        return _Lost(reasons.NOT_FOUND, status)
    if 300 <= status < 400:
        return _Lost(reasons.BAD_REDIRECT, status)
    passing = status >= 500 or status in (408, 429)
    return _Lost(reasons.HTTP_ERROR, status, again=passing)


def _read(response: http.client.HTTPResponse, allowance: Allowance, budget: Budget) -> io.BytesIO:
    """Read a body, but no more and no longer than is reasonable."""
    pieces: list[bytes] = []
    size, owner = 0, object()
    try:
        if response.length is not None and response.length > allowance.size:
            raise TooManyBytesError(f"more than {allowance.size}")
        while piece := response.read1(_PIECE):
            size += len(piece)
            # Waiting for memory of ours is not the server's fault.
            allowance.deadline += budget.take(owner, len(piece))
            pieces.append(piece)
            if size > allowance.size:
                raise TooManyBytesError(f"more than {allowance.size}")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if not size:
            raise _Lost(reasons.EMPTY)
    except BaseException:
        budget.give_back(owner, size)
        raise
    return _Body(b"".join(pieces), functools.partial(budget.give_back, owner, size))
