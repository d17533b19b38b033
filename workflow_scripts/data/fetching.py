"""Img2dataset's downloader with three changes: what it opens, how far it reads, how it writes.

As published (1.47) it opens whatever a redirect leads to, reads bodies without a limit, decodes an
image before it looks at its size, writes samples in the order in which they happen to arrive, and
loses a sample that it could not write to a full disk. Everything else is img2dataset's own.
"""

import contextlib
import functools
import http.client
import io
import json
import math
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from img2dataset import downloader as published
from img2dataset.resizer import Resizer
from img2dataset.writer import WebDatasetSampleWriter

from workflow_scripts.data import reasons
from workflow_scripts.data.images import ImageTooLarge, open_image
from workflow_scripts.data.web import make_opener

_PIECE = 1 << 16
# A body may take so many times the time-out of a single read; a server that sends a byte now and
# then would otherwise hold a thread for ever.
_PATIENCE = 6
_USER_AGENT = "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:72.0) Gecko/20100101 Firefox/72.0"
_SHARD_DIGITS = 5
_ROBOTS = ["noai", "noimageai", "noindex", "noimageindex"]
_OPENER = make_opener()
_downloader = None
_progress = None


@dataclass(frozen=True)
class Limits:
    """What is too much: bytes of a body as sent, pixels of an image before it is decoded."""

    max_bytes: int
    max_pixels: int


class _Lost(Exception):
    """A row that comes to nothing, and why."""

    def __init__(self, reason: str, detail: object = "", again: bool = False):
        super().__init__(f"{reason}: {detail}" if str(detail) else reason)
        self.again = again


def begin(settings: dict[str, Any], progress: Any) -> None:
    """Make this process ready to download, with the options of download.py.

    ``progress`` is a shared integer that counts the rows that are done with.
    """
    global _downloader, _progress  # noqa: PLW0603 - a worker process has one of each
    _progress = progress
    _downloader = Downloader(
        limits=Limits(settings["max_bytes"], settings["max_pixels"]),
        sample_writer_class=functools.partial(OrderedWriter, rows_per_tar=settings["rows_per_tar"]),
        resizer=Resizer(
            image_size=settings["image_size"],
            resize_mode="center_crop",
            resize_only_if_bigger=False,
            encode_quality=settings["jpeg_quality"],
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
    _downloader.download_shard(shard)


class Downloader(published.Downloader):
    """Downloads shards in img2dataset's way, within limits and with reproducible files."""

    def __init__(self, *, limits: Limits, **options: Any):
        super().__init__(**options)
        self.limits = limits

    def download_shard(self, row: tuple[int, str]) -> None:
        """Download one shard, given as its number and the file with its rows."""
        published.download_image_with_retry = functools.partial(_fetch, limits=self.limits)
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


def _fetch(
    row: tuple[int, str],
    *,
    timeout: float,
    retries: int,
    user_agent_token: str | None,
    disallowed_header_directives: set[str] | None,
    limits: Limits,
) -> tuple[int, io.BytesIO | None, str | None]:
    """Return a row's place, its image or nothing, and why there is nothing."""
    place, url = row
    lost = None
    for _ in range(retries + 1):
        try:
            body = _fetch_once(url, timeout, limits, disallowed_header_directives)
        except _Lost as error:
            lost = error
            if not error.again:
                break
        else:
            lost = None
            break
    if _progress is not None:
        with _progress.get_lock():
            _progress.value += 1
    return (place, None, str(lost)) if lost else (place, io.BytesIO(body), None)


def _fetch_once(url: str, timeout: float, limits: Limits, disallowed: set[str] | None) -> bytes:
    """Return an image that is worth decoding."""
    try:
        # Lists have URLs with blanks and letters of all scripts in them, as browsers show them.
        request = urllib.request.Request(
            quote(url, safe="%/:=&?~#+!$,;'@()*[]|"), headers={"User-Agent": _USER_AGENT}
        )
        with _OPENER.open(request, timeout=timeout) as response:
            if disallowed and published.is_disallowed(response.headers, None, disallowed):
                raise _Lost(reasons.DISALLOWED)
            body = _read(response, limits.max_bytes, time.monotonic() + _PATIENCE * timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise _lost_by_status(error) from error
    except TimeoutError as error:
        raise _Lost(reasons.TIMEOUT, again=True) from error
    except http.client.IncompleteRead as error:
        raise _Lost(reasons.CUT_OFF, again=True) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise _Lost(reasons.BAD_URL, error) from error
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            raise _Lost(reasons.TIMEOUT, again=True) from error
        raise _Lost(reasons.NO_CONNECTION, cause, again=True) from error
    return _checked(body, limits.max_pixels)


def _lost_by_status(error: urllib.error.HTTPError) -> _Lost:
    if error.code in (404, 410):
        return _Lost(reasons.NOT_FOUND, error.code)
    if 300 <= error.code < 400:
        return _Lost(reasons.BAD_REDIRECT, error.code)
    passing = error.code >= 500 or error.code in (408, 429)
    return _Lost(reasons.HTTP_ERROR, error.code, again=passing)


def _read(response: http.client.HTTPResponse, max_bytes: int, deadline: float) -> bytes:
    """Read a body, but no more and no longer than is reasonable."""
    too_many = _Lost(reasons.TOO_MANY_BYTES, f"more than {max_bytes}")
    if response.length is not None and response.length > max_bytes:
        raise too_many
    pieces, size = [], 0
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        size += len(piece)
        if size > max_bytes:
            raise too_many
        if time.monotonic() > deadline:
            raise TimeoutError
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    return b"".join(pieces)


def _checked(body: bytes, max_pixels: int) -> bytes:
    """Return an image whose header promises no more pixels than ``max_pixels``."""
    if not body:
        raise _Lost(reasons.EMPTY)
    try:
        open_image(body, max_pixels)
    except ImageTooLarge as error:
        raise _Lost(reasons.TOO_LARGE, error) from error
    except ValueError as error:
        raise _Lost(reasons.NOT_AN_IMAGE) from error
    return body
