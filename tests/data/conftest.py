"""An HTTP server on the loopback interface whose behaviour is set by a URL's first path segment."""

import functools
import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image


@functools.cache
def jpeg(seed=0, size=(96, 64), format="JPEG"):
    noise = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


@functools.cache
def plain_png(width, height):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body=b"", status=200, length=None, **headers):
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", len(body) if length is None else length)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        _, kind, *rest = self.path.split("/")
        number = int(rest[0].partition(".")[0]) if rest and rest[0][:1].isdigit() else 0
        if self.path in server.files:
            return self.file(server.files[self.path])
        if kind == "slow":
            time.sleep(server.delay(number))
        with server.lock:
            server.seen[self.path] = server.seen.get(self.path, 0) + 1
        answers = {
            "good": lambda: self.answer(jpeg(number)),
            "slow": lambda: self.answer(jpeg(number)),
            "missing": lambda: self.answer(b"<html>", 404),
            "gone": lambda: self.answer(b"", 410),
            "broken_server": lambda: self.answer(b"", 503),
            "second_try": lambda: (
                self.answer(b"", 503) if server.seen[self.path] < 2 else self.answer(jpeg(number))
            ),
            "silent": lambda: server.closing.wait(30),
            "drip": self.drip,
            "moved": lambda: self.answer(status=302, Location=f"/good/{number}.jpg"),
            "circle": lambda: self.answer(status=302, Location=self.path),
            "to_file": lambda: self.answer(status=302, Location="file:///etc/passwd"),
            "to_ftp": lambda: self.answer(status=302, Location="ftp://127.0.0.1/x.jpg"),
            "html": lambda: self.answer(b"<!DOCTYPE html><p>no image", Content_Type="image/jpeg"),
            "empty": lambda: self.answer(b""),
            "truncated": lambda: self.answer(jpeg(number)[:-500]),
            "cut_off": lambda: self.answer(jpeg(number)[:-500], length=len(jpeg(number))),
            "tiny": lambda: self.answer(jpeg(number, (1, 1), "PNG")),
            "huge": lambda: self.answer(plain_png(1200, 1000)),
            "heavy": lambda: self.answer(jpeg(number) + bytes(300_000)),
            "endless": self.endless,
            "noai": lambda: self.answer(jpeg(number), X_Robots_Tag="noai"),
        }
        answers[kind]()

    def drip(self):
        self.answer(length=100)
        for _ in range(100):
            if self.server.closing.wait(0.1):
                return
            self.wfile.write(b"x")

    def endless(self):
        self.close_connection = True
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.is_set():
            self.wfile.write(bytes(65536))

    def file(self, file):
        """Serve a file with ranges; the first ``file["cuts"]`` responses are cut off half-way."""
        body, tag = file["body"], file.get("etag", '"1"')
        if "part" in file:  # always this part, whatever range is requested
            first, end = file["part"]
            there = f"bytes {first}-{end - 1}/{len(body)}"
            return self.answer(body[first:end], 206, Content_Range=there)
        first, whole = 0, len(body)
        if "Range" in self.headers and self.headers.get("If-Range") == tag:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if first >= whole:
                return self.answer(status=416, Content_Range=f"bytes */{whole}")
        headers = {"ETag": tag}
        if first:
            headers["Content_Range"] = f"bytes {first}-{whole - 1}/{whole}"
        end = whole
        if file.get("cuts"):
            file["cuts"] -= 1
            end = first + (whole - first) // 2
        self.answer(body[first:end], 206 if first else 200, whole - first, **headers)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.files, self.requests, self.seen = {}, [], {}
        self.delay = lambda number: 0.0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()
