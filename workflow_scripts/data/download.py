"""Download the images of one part of a URL list into WebDataset tars, with img2dataset.

Needs   PART                            row, url, caption (made by urls.py)
Makes   OUTPUT/00000.tar ...            000000017.jpg, .txt and .json for each image that came
        OUTPUT/00000.parquet ...        every row: status, error_message (its reason first), sizes
        OUTPUT/00000_stats.json ...     how many came

Images are resized to the given shorter side, cropped to a square around the middle and stored as
JPEG. What a server sends decides about the bytes, the number of processes and threads does not.
"""

import argparse
import contextlib
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic_folder
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data.addresses import parse_networks
from workflow_scripts.data.proxies import Proxies
from workflow_scripts.data.reasons import NO_CONNECTION

# Large enough that the slowest URL of a tar holds up little, small enough to share out.
_ROWS_PER_TAR = 3000
# So many rows and no connection for any of them is no bad luck: there is no network.
_SUSPICIOUS = 100


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and download."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--part", type=Path, required=True, help="Parquet: row, url, caption")
    parser.add_argument("--output", type=Path, required=True, help="folder of the part's tars")
    parser.add_argument("--image-size", type=int, required=True, help="side in pixels")
    parser.add_argument("--jpeg-quality", type=int, required=True, help="1 to 100")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads-per-process", type=int, default=16, help="URLs open at a time")
    parser.add_argument(
        "--timeout", type=float, required=True, help="seconds; a whole body may take six times that"
    )
    parser.add_argument("--retries", type=int, required=True, help="after a passing error")
    parser.add_argument("--max-pixels", type=int, required=True, help="width x height")
    parser.add_argument("--max-bytes", type=int, required=True, help="of a body as sent")
    parser.add_argument(
        "--allow-private",
        action="append",
        default=[],
        metavar="NETWORK",
        help="that URLs may lead to although it is not public, e.g. 127.0.0.0/8; can be repeated",
    )
    parser.add_argument("--rows-per-tar", type=int, default=_ROWS_PER_TAR)
    options = parser.parse_args(arguments)
    try:
        parse_networks(options.allow_private)
    except ValueError as error:
        raise StepError(f"--allow-private: {error}") from error
    Proxies()  # what is wrong with them is said here, once
    # Albumentations, which img2dataset resizes with, would ask the network for its newest version.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with atomic_folder(options.output) as folder:
        scratch = folder / "_tmp"
        shards = _write_shards(options.part, scratch, options.rows_per_tar)
        rows = sum(shards.values())
        settings = {**vars(options), "output_folder": str(folder)}
        with (
            tqdm(desc="rows", total=rows, mininterval=5, unit=" rows") as bar,
            _temporary_files_in(scratch),
        ):
            _download(settings, [(i, str(path)) for i, path in enumerate(shards)], bar)
        shutil.rmtree(scratch)
        _check(options.part, folder, rows)


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have workers that start meanwhile leave their temporary files in ``folder``.

    What img2dataset imports leaves folders behind whenever its process does not end by itself.
    """
    # Except for this process's own: the paths of its workers' sockets have to be short.
    tempfile.gettempdir()
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder.resolve())
    try:
        yield
    finally:
        del os.environ["TMPDIR"]
        if before is not None:
            os.environ["TMPDIR"] = before


def _write_shards(part: Path, folder: Path, rows_per_tar: int) -> dict[Path, int]:
    """Write the rows of each tar to a file of its own, as img2dataset's downloader takes them."""
    try:
        table = pq.read_table(part, columns=["row", "caption", "url"])
    except FileNotFoundError as error:
        raise StepError(f"there is no part {part}; make it with urls.py") from error
    folder.mkdir()
    shards = {}
    for number, start in enumerate(range(0, len(table), rows_per_tar)):
        rows = table.slice(start, rows_per_tar)
        path = folder / f"{number}.feather"
        with pa.ipc.new_file(path, rows.schema) as file:
            file.write_table(rows)
        shards[path] = len(rows)
    return shards


def _download(settings: dict[str, Any], shards: list[tuple[int, str]], bar: tqdm) -> None:
    """Download all shards, and show progress meanwhile."""
    progress = multiprocessing.get_context("forkserver").Value("q", 0)
    workers = max(1, min(settings["processes"], len(shards)))
    preload = ["workflow_scripts.data.fetching"]
    pool = worker_pool(workers, _begin, (settings, progress), preload)
    waiting: set[Future] = {pool.submit(_download_shard, shard) for shard in shards}
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=1, return_when=FIRST_EXCEPTION)
            bar.update(progress.value - bar.n)
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise StepError(
            "a download process was killed, probably for want of memory; give the job more, or "
            "lower --processes or --threads-per-process"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


# Img2dataset takes seconds to import: the workers' server does, once; --help does not.
def _begin(settings: dict[str, Any], progress: Any) -> None:
    from workflow_scripts.data import fetching  # noqa: PLC0415

    fetching.begin(settings, progress)


def _download_shard(shard: tuple[int, str]) -> None:
    from workflow_scripts.data import fetching  # noqa: PLC0415

    fetching.download_shard(shard)


def _check(part: Path, folder: Path, rows: int) -> None:
    """Refuse a part that has not all rows, or that was downloaded without a network."""
    if not rows:
        return
    files = sorted(folder.glob("*.parquet"))
    messages = pd.concat([pd.read_parquet(file)["error_message"] for file in files])
    if len(messages) != rows:
        raise StepError(
            f"img2dataset lost {rows - len(messages)} of the {rows} rows of {part}; its messages "
            "are above; run the download again"
        )
    unreached = messages[messages.str.startswith(NO_CONNECTION, na=False)]
    if rows >= _SUSPICIOUS and len(unreached) == rows:
        raise StepError(
            f"none of the {rows} URLs of {part} could be reached ({unreached.iloc[0]}); is there a "
            "network here, or a proxy to be named in http_proxy and https_proxy?"
        )
    failed = messages.notna().sum()
    print(f"{rows - failed} of {rows} images came")


if __name__ == "__main__":
    run_step(main)
