"""What the demo's server answers: one method for each behaviour of ``behaviours.py``."""

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

_SILENCE = 3600.0  # seconds: longer than any client waits
_HTML = b"<!DOCTYPE html><title>Sorry</title><p>This picture is not here any more.</p>"
_HUGE_SIDE = 12_000  # pixels
_ENDLESS_PIECE = b"\xff\xd8" + bytes(65_534)


class WorldServer(ThreadingHTTPServer):
    """A server of one world on a free port of the loopback.

    Attributes:
        address: E.g. ``http://127.0.0.1:40123``.
        closing: Set when the server is to end; answers that hang are waiting for it.
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
                f"{world} holds no world; make one with workflow_scripts.demo.world"
            ) from error
        self._images = os.open(world / "images.tar", os.O_RDONLY)
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"

    def image(self, key: str) -> bytes | None:
        """Return a picture's bytes, or nothing if there is none of that name."""
        if key not in self._places:
            return None
        offset, size = self._places[key]
        return os.pread(self._images, size, offset)

    def handle_error(self, request, client_address):
        """Let a client that walks away do so without a word; it is one of the points here."""


class _Answers(BaseHTTPRequestHandler):
    server: WorldServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *args):
        """Say nothing: the download's own report is the record."""

    def do_GET(self):
        """Answer a request to the server itself or, as to a proxy, for a whole URL."""
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
        """Return an image that the list says is there."""
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
        """Send headers and a body; ``length`` is what the headers say, -1 the truth."""
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
    """Return a JPEG up to the middle of its pixel data, so that half the picture is there."""
    start_of_scan = jpeg.index(b"\xff\xda")
    return jpeg[: (start_of_scan + len(jpeg)) // 2]


@cache
def _tiny_image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


@cache
def huge_image(side: int) -> bytes:
    """Return a grey RGB PNG, a few kB on the wire and ``3 * side**2`` bytes once decoded.

    It is made of one compressed row, repeated: the picture itself is never in memory.
    """
    row = b"\0" + b"\x80" * (3 * side)  # filter "none", then the pixels
    squeeze = zlib.compressobj(9, wbits=-15)
    # A full flush forgets what came before, so that the piece can stand anywhere.
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
