"""Responses of the demo's server: one method for each behaviour of ``behaviours.py``."""

import io
import os
import struct
import tarfile
import threading
import zlib
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image

from workflow_scripts.common.errors import StepError
from workflow_scripts.demo.behaviours import GOOD, LIST

_SILENCE = 3600.0  # seconds; longer than any client's timeout
_HTML = b"<!DOCTYPE html><title>Sorry</title><p>This picture is not here any more.</p>"
_HUGE_SIDE = 12_000  # pixels
_ENDLESS_PIECE = b"\xff\xd8" + bytes(65_534)


class DemoServer(ThreadingHTTPServer):
    """A server of the demo's data on a free port of the loopback interface.

    Attributes:
        address: Address of the server, e.g. ``http://127.0.0.1:40123``.
        closing: Set when the server shuts down; responses that hang wait for it.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, world: Path):
        try:
            self.list = (world / LIST).read_bytes()
            with tarfile.open(world / "images.tar") as tar:
                self._places = {
                    member.name.partition(".")[0]: (member.offset_data, member.size)
                    for member in tar
                }
        except (FileNotFoundError, tarfile.TarError) as error:
            raise StepError(
                f"{world} does not contain the demo's data; generate it with "
                "workflow_scripts.demo.world"
            ) from error
        self._images = os.open(world / "images.tar", os.O_RDONLY)
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"

    def image(self, key: str) -> bytes | None:
        """Return an image's bytes, or None if there is no image of this name."""
        if key not in self._places:
            return None
        offset, size = self._places[key]
        return os.pread(self._images, size, offset)

    def handle_error(self, request, client_address):
        """Ignore errors: clients are expected to close connections early."""


class _Answers(BaseHTTPRequestHandler):
    server: DemoServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        """Log nothing; the download step writes its own report."""

    def do_GET(self):
        """Respond to a direct request or to a proxy request with an absolute URL."""
        path = urlsplit(self.path).path
        if path == f"/{LIST}":
            self._send(self.server.list, "text/csv; charset=utf-8")
            return
        folder, _, name = path.strip("/").partition("/")
        key = name.partition(".")[0]
        answer = getattr(self, f"answer_{folder}", self.answer_missing)
        answer(key)

    def answer_good(self, key: str) -> None:
        image = self.server.image(key)
        if image is None:
            self.answer_missing(key)
        else:
            self._send(image)

    def _image(self, key: str) -> bytes:
        """Return an image that exists according to the list."""
        image = self.server.image(key)
        assert image is not None
        return image

    def answer_disallowed(self, key: str) -> None:
        self._send(self._image(key), extra=("X-Robots-Tag", "noai"))

    def answer_moved(self, key: str) -> None:
        self._redirect(f"/{GOOD}/{key}.jpg")

    def answer_circular(self, key: str) -> None:
        self._redirect(self.path)

    def answer_to_a_file(self, key: str) -> None:
        self._redirect("file:///etc/hostname")

    def answer_missing(self, key: str) -> None:
        self._send(_HTML, "text/html", status=404)

    def answer_unavailable(self, key: str) -> None:
        self._send(_HTML, "text/html", status=503)

    def answer_silent(self, key: str) -> None:
        self.close_connection = True
        self.server.closing.wait(_SILENCE)

    def answer_stalled(self, key: str) -> None:
        self.answer_cut_off(key)
        self.server.closing.wait(_SILENCE)

    def answer_cut_off(self, key: str) -> None:
        image = self._image(key)
        self._send(_first_half(image), length=len(image))

    def answer_endless(self, key: str) -> None:
        self._send(b"", length=None)
        while not self.server.closing.is_set():
            self.wfile.write(_ENDLESS_PIECE)

    def answer_html(self, key: str) -> None:
        self._send(_HTML, "text/html")

    def answer_truncated(self, key: str) -> None:
        self._send(_first_half(self._image(key)))

    def answer_empty(self, key: str) -> None:
        self._send(b"")

    def answer_tiny(self, key: str) -> None:
        self._send(_tiny_image(), "image/png")

    def answer_huge(self, key: str) -> None:
        self._send(huge_image(_HUGE_SIDE), "image/png")

    def _redirect(self, location: str) -> None:
        self._send(b"", status=302, extra=("Location", location))

    def _send(
        self,
        body: bytes,
        kind: str = "image/jpeg",
        *,
        status: int = 200,
        length: int | None = -1,
        extra: tuple[str, str] | None = None,
    ) -> None:
        """Send headers and a body; ``length`` is the declared length, -1 for the true one."""
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        if extra is not None:
            self.send_header(*extra)
        self.end_headers()
        self.wfile.write(body)


def _first_half(jpeg: bytes) -> bytes:
    """Return a JPEG up to the middle of its pixel data, i.e. half of the image."""
    start_of_scan = jpeg.index(b"\xff\xda")
    return jpeg[: (start_of_scan + len(jpeg)) // 2]


@cache
def _tiny_image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def huge_image(side: int) -> bytes:
    """Return a grey RGB PNG of a few kB, which decodes to ``3 * side**2`` bytes.

    It consists of one compressed row, repeated, so the decoded image is never in memory.
    """
    row = b"\0" + b"\x80" * (3 * side)  # filter "none", then the pixels
    squeeze = zlib.compressobj(9, wbits=-15)
    # A full flush resets the compressor's state, so the piece can be repeated.
    piece = squeeze.compress(row) + squeeze.flush(zlib.Z_FULL_FLUSH)
    checksum = 1
    for _ in range(side):
        checksum = zlib.adler32(row, checksum)
    data = b"\x78\x9c" + piece * side + squeeze.flush() + struct.pack(">I", checksum)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
