"""img2dataset's downloader with safe fetching, isolated resizing and reproducible output.

The published version (1.47) follows URLs to any address, reads bodies of any size, decodes in the
downloading process, writes samples in order of arrival, and silently drops samples that it cannot
write to a full disk. These parts are replaced here; everything else is img2dataset's.
"""

import contextlib
import functools
import http.client
import io
import json
import math
import os
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
# Limit of one attempt, as a multiple of the time-out of a single read. Without it, a server that
# sends one byte at a time would block a thread forever.
_DEADLINE_FACTOR = 6
# Memory for response bodies in one process, over all its threads. A single body may exceed it.
_BODY_BYTES = 256 << 20
_USER_AGENT = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0"
_SHARD_DIGITS = 5
_ROBOTS = ["noai", "noimageai", "noindex", "noimageindex"]
_downloader: "Downloader | None" = None
_progress: Any = None


class _Lost(Exception):
    """A row without an image: the reason, and whether the error is transient."""

    def __init__(self, reason: str, detail: object = "", transient: bool = False):
        super().__init__(f"{reason}: {detail}" if str(detail) else reason)
        self.transient = transient


class Budget:
    """A memory budget shared by all threads of a process; requests beyond it block.

    One owner at a time may exceed the budget, which prevents a deadlock of bodies that all wait
    for more.
    """

    def __init__(self, size: int):
        self._size, self._used = size, 0
        self._exceeding: object = None
        self._changed = threading.Condition()

    def take(self, owner: object, size: int) -> float:
        """Take ``size`` bytes for ``owner``, waiting until they are available.

        Returns:
            Waiting time in seconds.
        """
        started = time.monotonic()
        with self._changed:
            while self._used + size > self._size and self._exceeding not in (None, owner):
                self._changed.wait()
            if self._used + size > self._size:
                self._exceeding = owner
            self._used += size
        return time.monotonic() - started

    def give_back(self, owner: object, size: int) -> None:
        """Release the ``size`` bytes that ``owner`` has taken."""
        with self._changed:
            self._used -= size
            if self._exceeding is owner:
                self._exceeding = None
            self._changed.notify_all()


class _Body(io.BytesIO):
    """A response body in memory that releases its budget when it is closed."""

    def __init__(self, content: bytes, give_back: Any):
        super().__init__(content)
        self._give_back = give_back

    def close(self) -> None:
        if not self.closed:
            self._give_back()
        super().close()


def begin(settings: dict[str, Any], progress: Any) -> None:
    """Initialise the downloader of a worker process.

    Args:
        settings: Options of download.py, and ``output_folder``.
        progress: Shared integer that counts the finished rows.
    """
    global _downloader, _progress  # noqa: PLW0603 - one of each per worker process
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
    """Download one shard, given by its number and the file with its rows."""
    assert _downloader is not None  # set by begin
    _downloader.download_shard(shard)


class Downloader(published.Downloader):
    """img2dataset's downloader with limits per URL and reproducible output files."""

    def __init__(self, *, client: Client, max_bytes: int, **options: Any):
        super().__init__(**options)
        self._fetch = functools.partial(
            fetch_row, client=client, max_bytes=max_bytes, budget=Budget(_BODY_BYTES)
        )

    def download_shard(self, row: tuple[int, str]) -> None:
        """Download one shard, given by its number and the file with its rows."""
        published.download_image_with_retry = self._fetch
        super().download_shard(row)
        stats = Path(self.output_folder) / f"{row[0]:0{self.oom_shard_count}d}_stats.json"
        content = json.loads(stats.read_text())
        for name in ("duration", "start_time", "end_time"):
            del content[name]
        content["status_dict"] = dict(sorted(content["status_dict"].items()))
        stats.write_text(json.dumps(content, indent=4) + "\n")


class OrderedWriter(WebDatasetSampleWriter):
    """Writes samples in list order, named by their rows and without timestamps."""

    def __init__(self, shard_id: int, *rest: Any, rows_per_tar: int):
        super().__init__(shard_id, *rest)
        self.tarwriter.mtime = 0
        # img2dataset's keys are the shard's number followed by the index in the shard.
        self._first = shard_id * 10 ** math.ceil(math.log10(rows_per_tar))
        self._waiting: dict[int, tuple] = {}
        self._next = 0
        self._failure: Exception | None = None

    def write(self, img_str: bytes | None, key: str, caption: str, meta: dict) -> None:
        """Queue a sample, and write all samples whose predecessors have been written."""
        self._waiting[int(key) - self._first] = (img_str, caption, meta)
        # The caller only prints exceptions, so the first one is kept and raised by close().
        try:
            while self._next in self._waiting and not self._failure:
                self._write_now(*self._waiting.pop(self._next))
                self._next += 1
        except Exception as error:
            self._failure = error

    def close(self) -> None:
        """Write the remaining samples and close the files.

        Raises:
            Exception: The first error that :meth:`write` met, e.g. ``OSError`` for a full disk.
        """
        if self._failure:
            # The files are incomplete, so further errors on closing do not matter.
            with contextlib.suppress(Exception):
                super().close()
            raise self._failure
        for index in sorted(self._waiting):
            self._write_now(*self._waiting[index])
        super().close()

    def _write_now(self, img_str: bytes | None, caption: str, meta: dict) -> None:
        meta["key"] = f"{meta['row']:09d}"
        super().write(img_str, meta["key"], caption, meta)


def _resize(resizer: Resizer, body: io.BytesIO, boxes: None = None) -> tuple:
    """Resize an image; returns what img2dataset expects of a resizer.

    Returns:
        The JPEG, its width and height, the original width and height, and the error; all but the
        error are None if there is one.
    """
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
    """Fetch the image of one row, with retries.

    All errors are returned, since a bad row must not affect the others, except ``MemoryError``,
    which ends the process.

    Returns:
        The row's index in the shard, the body or None, and the reason why there is no body or None.
    """
    index, url = row
    body = lost = None
    for _ in range(retries + 1):
        allowance = Allowance(timeout, time.monotonic() + _DEADLINE_FACTOR * timeout, max_bytes)
        try:
            body = _fetch_once(url, client, allowance, budget, disallowed_header_directives)
            lost = None
            break
        except MemoryError:
            # Raised in this thread, it would leave img2dataset waiting forever. The parent reports
            # that a process ended, which is probably due to too little memory.
            os._exit(1)
        except Exception as error:
            lost = _lost_by_error(error)
            if not lost.transient:
                break
    if _progress is not None:
        with _progress.get_lock():
            _progress.value += 1
    return index, body, str(lost) if lost else None


def _fetch_once(
    url: str, client: Client, allowance: Allowance, budget: Budget, disallowed: set[str] | None
) -> io.BytesIO:
    with client.open(url, allowance) as response:
        if response.status != 200:
            raise _lost_by_status(response.status)
        if disallowed and published.is_disallowed(response.headers, None, disallowed):
            raise _Lost(reasons.DISALLOWED)
        return _read(response, allowance, budget)


def _lost_by_error(error: Exception) -> _Lost:
    """Map an exception to the reason that the row is counted under."""
    if isinstance(error, _Lost):
        return error
    for kind, reason, transient in (
        (TooManyBytesError, reasons.TOO_MANY_BYTES, False),
        (PrivateAddressError, reasons.PRIVATE, False),
        (BadRedirectError, reasons.BAD_REDIRECT, False),
        (TimeoutError, reasons.TIMEOUT, True),
        (http.client.IncompleteRead, reasons.CUT_OFF, True),
        (OSError, reasons.NO_CONNECTION, True),
        ((http.client.InvalidURL, ValueError), reasons.BAD_URL, False),
    ):
        if isinstance(error, kind):
            return _Lost(reason, "" if kind is TimeoutError else error, transient)
    # The parser raises many kinds of exceptions on responses that are not HTTP.
    return _Lost(reasons.BAD_ANSWER, error)


def _lost_by_status(status: int) -> _Lost:
    if status in (404, 410):
        return _Lost(reasons.NOT_FOUND, status)
    if 300 <= status < 400:
        return _Lost(reasons.BAD_REDIRECT, status)
    transient = status >= 500 or status in (408, 429)
    return _Lost(reasons.HTTP_ERROR, status, transient)


def _read(response: http.client.HTTPResponse, allowance: Allowance, budget: Budget) -> io.BytesIO:
    """Read a body within the limits of the allowance and the memory budget."""
    pieces: list[bytes] = []
    size, owner = 0, object()
    try:
        if response.length is not None and response.length > allowance.size:
            raise TooManyBytesError(f"more than {allowance.size} bytes")
        while piece := response.read1(_PIECE):
            size += len(piece)
            # Time spent waiting for memory does not count against the server.
            allowance.deadline += budget.take(owner, len(piece))
            pieces.append(piece)
            if size > allowance.size:
                raise TooManyBytesError(f"more than {allowance.size} bytes")
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        if not size:
            raise _Lost(reasons.EMPTY)
    except BaseException:
        budget.give_back(owner, size)
        raise
    return _Body(b"".join(pieces), functools.partial(budget.give_back, owner, size))
