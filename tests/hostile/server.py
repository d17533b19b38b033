"""A server on the loopback interface that violates HTTP or stalls its clients.

The first path segment of a URL names the behaviour. ``BEHAVIOURS`` maps it to a function of the
connection and to the reasons under which the row may be counted; ``None`` means that the image is
downloaded.
"""

import functools
import gzip
import io
import socket
import socketserver
import struct
import threading
import time
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

TIMEOUT = 0.5  # seconds that the client waits for a byte
_PIECE = bytes(65536)


@functools.cache
def jpeg(side: int = 48) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG")
    return buffer.getvalue()


def png(width: int, height: int, rows: bytes = b"", color: int = 2) -> bytes:
    """Return a PNG with the given size in its header and the given rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@functools.cache
def bomb() -> bytes:
    return png(100, 100, bytes(50_000_000))


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1")


def whole(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    return head(f"Content-Length: {len(body)}", *lines, status=status) + body


class Connection:
    """A client's connection, as passed to a behaviour."""

    def __init__(self, sock: socket.socket, closing: threading.Event, path: str, base: str):
        self._sock, self._closing, self.path, self.base = sock, closing, path, base

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._sock.sendall(piece)

    def drip(self, data: bytes, pause: float = 0.1) -> None:
        for byte in data:
            if self._closing.wait(pause):
                return
            self.send(bytes([byte]))

    def flood(self, *pieces: bytes) -> None:
        self.send(pieces[0])
        while not self._closing.is_set():
            self.send(*pieces[1:])

    def wait(self, seconds: float = 60) -> None:
        self._closing.wait(seconds)

    def reset(self) -> None:
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def to(self, where: str, body: bytes = b"") -> None:
        self.send(whole(body, f"Location: {where}", status="302 Found"))


Act = Callable[[Connection], None]
_LATE = "timeout"
_CHUNKED = "Transfer-Encoding: chunked"
_SLOW_DRIP = b"x" * 1000

BEHAVIOURS: dict[str, tuple[Act, set[str | None]]] = {
    # --- Valid responses
    "good": (lambda c: c.send(whole(jpeg())), {None}),
    "no_length": (lambda c: c.send(head(), jpeg()), {None}),
    "chunked": (
        lambda c: c.send(head(_CHUNKED), b"%x\r\n" % len(jpeg()), jpeg(), b"\r\n0\r\n\r\n"),
        {None},
    ),
    "continue_once": (lambda c: c.send(head(status="100 Continue"), whole(jpeg())), {None}),
    "http_1_0": (lambda c: c.send(whole(jpeg()).replace(b"HTTP/1.1", b"HTTP/1.0", 1)), {None}),
    "moved": (lambda c: c.to("/good/1.jpg"), {None}),
    "moved_by_utf8": (lambda c: c.send(
        head("Content-Length: 0", status="301 x")[:-2] + "Location: /good/ü.jpg\r\n\r\n".encode()
    ), {None}),
    "moved_with_a_body": (lambda c: c.to("/good/1.jpg", _PIECE * 2), {None}),
    "slow_but_in_time": (lambda c: c.drip(whole(jpeg(2))[:8], 0.05) or c.send(whole(jpeg(2))[8:]), {None}),
    # --- Silent and slow servers
    "silent": (lambda c: c.wait(), {_LATE}),
    "half_a_status": (lambda c: (c.send(b"HTTP/1."), c.wait()), {_LATE}),
    "dripping_status": (lambda c: c.drip(b"HTTP/1.1 200 " + _SLOW_DRIP), {_LATE}),
    "dripping_header": (lambda c: (c.send(b"HTTP/1.1 200 OK\r\n"), c.drip(b"A: " + _SLOW_DRIP)), {_LATE}),
    "dripping_headers": (lambda c: (c.send(b"HTTP/1.1 200 OK\r\n"), c.drip(b"A:b\r\n" * 99)), {_LATE}),
    "dripping_body": (lambda c: (c.send(head("Content-Length: 1000")), c.drip(_SLOW_DRIP)), {_LATE}),
    "dripping_chunk_size": (lambda c: (c.send(head(_CHUNKED)), c.drip(b"0" * 999)), {_LATE}),
    "dripping_chunks": (lambda c: (c.send(head(_CHUNKED)), c.drip(b"1\r\nx\r\n" * 99)), {_LATE}),
    "dripping_trailer": (
        lambda c: (c.send(head(_CHUNKED), b"1\r\nx\r\n0\r\n"), c.drip(b"A: b\r\n" * 99)),
        {_LATE},
    ),
    "dripping_redirect_body": (
        lambda c: (c.send(head("Location: /silent/1", "Content-Length: 99", status="302 x")), c.drip(_SLOW_DRIP)),
        {_LATE},
    ),
    "half_a_body": (lambda c: (c.send(head("Content-Length: 1000"), b"x" * 500), c.wait()), {_LATE}),
    "slow_redirects": (lambda c: (c.wait(0.4), c.to(f"{c.path}x")), {_LATE, "bad redirect"}),
    "slow_continues": (lambda c: [(c.wait(0.3), c.send(head(status="100 Continue"))) for _ in range(99)], {_LATE}),
    # --- Endless responses
    "endless_body": (lambda c: c.flood(head(), _PIECE), {"too many bytes"}),
    "endless_chunks": (lambda c: c.flood(head(_CHUNKED), b"10000\r\n" + _PIECE + b"\r\n"), {"too many bytes"}),
    "endless_chunk_size": (lambda c: c.flood(head(_CHUNKED), b"0" * 4096), {"bad answer", "too many bytes", "cut off"}),
    "endless_trailer": (lambda c: c.flood(head(_CHUNKED) + b"1\r\nx\r\n0\r\n", b"A: b\r\n" * 999), {"too many bytes"}),
    "endless_status": (lambda c: c.flood(b"HTTP/1.1 200 ", _PIECE), {"bad answer", "too many bytes"}),
    "endless_header": (lambda c: c.flood(b"HTTP/1.1 200 OK\r\nA: ", b"x" * 4096), {"bad answer", "too many bytes"}),
    "endless_headers": (lambda c: c.flood(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"), {"bad answer", "too many bytes"}),
    "endless_continues": (lambda c: c.flood(b"", head(status="100 Continue") * 99), {"too many bytes", _LATE}),
    "endless_redirect_body": (lambda c: c.flood(head("Location: /good/1.jpg", status="302 x"), _PIECE), {None}),
    "endless_error_body": (lambda c: c.flood(head(status="404 x"), _PIECE), {"not found"}),
    "announced_terabytes": (lambda c: c.send(head(f"Content-Length: {10**13}"), b"x"), {"too many bytes"}),
    "huge_chunk_size": (lambda c: c.flood(head(_CHUNKED) + b"fffffffffff\r\n", _PIECE), {"too many bytes"}),
    # --- Invalid and unusual responses
    "cut_off": (lambda c: c.send(head("Content-Length: 1000"), b"x"), {"cut off"}),
    "cut_off_chunk": (lambda c: c.send(head(_CHUNKED), b"ff\r\nx"), {"cut off"}),
    "negative_length": (lambda c: c.send(head("Content-Length: -5"), jpeg()), {None, "bad answer"}),
    "length_of_letters": (lambda c: c.send(head("Content-Length: many"), jpeg()), {None, "bad answer"}),
    "two_lengths": (lambda c: c.send(head("Content-Length: 9", "Content-Length: 99"), jpeg()), {"broken image", "not an image", "bad answer", "cut off"}),
    "chunk_of_letters": (lambda c: c.send(head(_CHUNKED), b"zz\r\nx"), {"bad answer", "cut off"}),
    "negative_chunk": (lambda c: c.send(head(_CHUNKED), b"-5\r\nxxxxx\r\n0\r\n\r\n"), {"bad answer", "cut off", "too many bytes"}),
    "not_http": (lambda c: c.send(b"SSH-2.0-OpenSSH_9.2\r\n"), {"bad answer"}),
    "status_of_letters": (lambda c: c.send(b"HTTP/1.1 two OK\r\n\r\n"), {"bad answer"}),
    "status_of_five_digits": (lambda c: c.send(b"HTTP/1.1 20000 OK\r\n\r\n"), {"bad answer"}),
    "nothing_at_all": (lambda c: None, {"no connection"}),
    "reset": (lambda c: c.reset(), {"no connection"}),
    "zeros": (lambda c: c.send(bytes(4096)), {"bad answer", "no connection"}),
    "no_content": (lambda c: c.send(head(status="204 x")), {"http error"}),
    "partial": (lambda c: c.send(whole(jpeg(), status="206 x")), {"http error"}),
    "upgrade": (lambda c: c.send(head(status="101 x")), {"http error"}),
    "teapot": (lambda c: c.send(whole(b"", status="418 x")), {"http error"}),
    "gone": (lambda c: c.send(whole(b"", status="410 x")), {"not found"}),
    "broken_server": (lambda c: c.send(whole(b"", status="503 x")), {"http error"}),
    "robots": (lambda c: c.send(whole(jpeg(), "X-Robots-Tag: noai")), {"disallowed"}),
    "hostile_robots": (lambda c: c.send(whole(jpeg(), *["X-Robots-Tag: " + ":,:" * 999] * 9)), {None}),
    "empty": (lambda c: c.send(whole(b"")), {"empty"}),
    # --- Redirects
    "circle": (lambda c: c.to(c.path), {"bad redirect"}),
    "growing": (lambda c: c.to(c.path + "/x" * 3000), {"bad redirect", "bad answer"}),
    "to_nowhere": (lambda c: c.send(head(status="302 x")), {"bad redirect"}),
    "to_a_file": (lambda c: c.to("file:///etc/passwd"), {"bad redirect"}),
    "to_ftp": (lambda c: c.to("ftp://127.0.0.1/x"), {"bad redirect"}),
    "to_data": (lambda c: c.to("data:image/png;base64,AAAA"), {"bad redirect"}),
    "to_javascript": (lambda c: c.to("javascript:alert(1)"), {"bad redirect"}),
    "to_a_large_port": (lambda c: c.to(f"http://127.0.0.1:{10**25}/x"), {"bad redirect"}),
    "to_a_negative_port": (lambda c: c.to("http://127.0.0.1:-1/x"), {"bad redirect"}),
    "to_a_port_of_letters": (lambda c: c.to("http://127.0.0.1:http/x"), {"bad redirect"}),
    "to_a_broken_host": (lambda c: c.to("http://[::1/x"), {"bad redirect"}),
    "to_a_long_host": (lambda c: c.to(f"http://{'a' * 300}/x"), {"bad url", "bad redirect", "no connection"}),
    "to_a_private_address": (lambda c: c.to("http://169.254.169.254/latest"), {"private address"}),
    "to_a_private_number": (lambda c: c.to("http://3232235777/x"), {"private address"}),
    # --- Bodies
    "html": (lambda c: c.send(whole(b"<!DOCTYPE html>", "Content-Type: image/jpeg")), {"not an image"}),
    "svg": (lambda c: c.send(whole(b"<svg xmlns='http://www.w3.org/2000/svg'/>")), {"not an image"}),
    "gzipped": (lambda c: c.send(whole(gzip.compress(jpeg()), "Content-Encoding: gzip")), {"not an image"}),
    "truncated": (lambda c: c.send(whole(jpeg()[:-300])), {"broken image"}),
    "promises_a_million_by_a_million": (lambda c: c.send(whole(png(10**6, 10**6))), {"image too large"}),
    "promises_more_than_it_has": (lambda c: c.send(whole(png(900, 900, bytes(100)))), {"broken image"}),
    "thin": (lambda c: c.send(whole(png(1, 90_000, bytes(4 * 90_000)))), {None}),
    "flat": (lambda c: c.send(whole(png(90_000, 1, bytes(1 + 3 * 90_000)))), {None}),
    "bomb": (lambda c: c.send(whole(bomb())), {None, "broken image"}),
    "too_heavy": (lambda c: c.send(whole(jpeg() + bytes(300_000))), {"too many bytes"}),
}  # fmt: skip


class Server(socketserver.ThreadingTCPServer):
    """Serves ``BEHAVIOURS`` until it is closed."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), None)
        self.closing = threading.Event()
        bomb()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request, client_address):
        request.settimeout(60)
        asked = b""
        while b"\r\n\r\n" not in asked:
            piece = request.recv(65536)
            if not piece:
                return
            asked += piece
        path = asked.split(b" ", 2)[1].decode()
        act, _ = BEHAVIOURS[path.split("/")[1]]
        act(Connection(request, self.closing, path, self.url))

    def handle_error(self, *_):
        """Ignore clients that disconnect, which is what they should do."""

    def shutdown_request(self, request):
        """Close without a shutdown, after a pause in which the last bytes are sent."""
        time.sleep(0.01)
        self.close_request(request)
