"""Measure downloads per second from a local server, compared with plain img2dataset.

    python -m benchmarks.download --rows 6000

Each row has a different host (an address in 127.0.0.0/8). Both sides resize to 224 pixels and write
WebDataset tars with digests. In addition, ours decodes images in isolated processes and checks
addresses, sizes and deadlines. The two sides run alternately, and each turn gives rows of the
table.
"""

import argparse
import ctypes
import http.server
import io
import itertools
import multiprocessing
import os
import resource
import socketserver
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.measuring import header, row

_IMAGES = 64
_BECOME_REAPER = 36  # PR_SET_CHILD_SUBREAPER


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=6000, help="number of images")
    parser.add_argument("--processes", type=int, default=1, help="download processes")
    parser.add_argument("--threads", type=int, default=64, help="threads per process")
    parser.add_argument("--turns", type=int, default=3, help="runs of each side")
    options = parser.parse_args()
    # Orphaned grandchildren become children of this process, so that their CPU time is counted.
    ctypes.CDLL(None).prctl(_BECOME_REAPER, 1)
    pictures = made_up_pictures()
    port = multiprocessing.Value("i", 0)
    server = multiprocessing.Process(target=serve, args=(pictures, port), daemon=True)
    server.start()
    header()
    with tempfile.TemporaryDirectory() as folder:
        while not port.value:
            time.sleep(0.01)
        part = Path(folder) / "part.parquet"
        write_part(part, options.rows, port.value)
        for turn in range(options.turns):
            commands = [
                ours(part, Path(folder) / f"ours{turn}", options),
                bare(part, Path(folder) / f"bare{turn}", options),
            ]
            costs = [seconds(command) for command in commands]
            for name, place in {"wall": 0, "processor": 1}.items():
                rates = (options.rows / cost[place] for cost in costs)
                row(f"download, turn {turn + 1}: rows by {name} time", *rates, "rows/s")
    server.kill()


def made_up_pictures() -> list[bytes]:
    """Return JPEGs of the typical size of web images: about 500 pixels, 60 kB."""
    draw = np.random.default_rng(0)
    pictures = []
    for _ in range(_IMAGES):
        rough = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        file = io.BytesIO()
        noise = draw.normal(0, 8, (480, 640, 3))
        smooth = np.asarray(Image.fromarray(rough).resize((640, 480), Image.Resampling.BICUBIC))
        pixels = (smooth + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(file, "JPEG", quality=80)
        pictures.append(file.getvalue())
    return pictures


def serve(pictures: list[bytes], port: object) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pictures[int(self.path.strip("/")) % len(pictures)]
            head = f"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n"
            self.wfile.write(head.encode() + b"\r\n" + body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads, request_queue_size = True, 1024

    server = Server(("0.0.0.0", 0), Handler)
    port.value = server.server_port  # type: ignore[attr-defined]
    server.serve_forever()


def write_part(path: Path, rows: int, port: int) -> None:
    hosts = (f"127.{i // 65_000 + 1}.{i // 250 % 260}.{i % 250 + 1}" for i in itertools.count())
    urls = [f"http://{host}:{port}/{i}" for i, host in zip(range(rows), hosts, strict=False)]
    captions = [f"caption {i}" for i in range(rows)]
    pq.write_table(pa.table({"row": range(rows), "url": urls, "caption": captions}), path)


def ours(part: Path, output: Path, options: argparse.Namespace) -> list[str]:
    limits = "--image-size=224 --jpeg-quality=95 --timeout=10 --retries=0 --max-pixels=100000000"
    concurrency = f"--processes={options.processes} --threads-per-process={options.threads}"
    places = f"--part={part} --output={output} --max-bytes=50000000 --allow-private=127.0.0.0/8"
    module = [sys.executable, "-m", "workflow_scripts.data.download"]
    return [*module, *f"{places} {limits} {concurrency}".split()]


def bare(part: Path, output: Path, options: argparse.Namespace) -> list[str]:
    keywords = {
        "url_list": str(part),
        "output_folder": str(output),
        "image_size": 224,
        "resize_mode": "center_crop",
        "processes_count": options.processes,
        "thread_count": options.threads,
        "number_sample_per_shard": 3000,
        "input_format": "parquet",
        "output_format": "webdataset",
        "caption_col": "caption",
        "save_additional_columns": ["row"],
        "extract_exif": False,
    }
    return [sys.executable, "-c", f"import img2dataset; img2dataset.download(**{keywords!r})"]


def seconds(command: list[str]) -> tuple[float, float]:
    """Run a command; return wall time and CPU time of all its processes, in seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}
    silence = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, **silence)
    if process.wait():
        raise RuntimeError(f"failed: {' '.join(command)}")
    wall = time.perf_counter() - start
    wait_for_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def wait_for_orphans() -> None:
    """Wait for orphaned processes of a finished command, but not for this benchmark's server."""
    own = {child.pid for child in multiprocessing.active_children()}
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        orphans = [int(child) for child in children if int(child) not in own]
        for orphan in orphans:
            os.waitpid(orphan, os.WNOHANG)
        if not orphans:
            return
        time.sleep(0.02)


if __name__ == "__main__":
    main()
