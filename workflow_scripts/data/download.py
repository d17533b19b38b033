"""Download the images of one part of a URL list into WebDataset tars, with img2dataset.

Inputs  PART                            row, url, caption (from urls.py)
Outputs OUTPUT/00000.tar ...            000000017.jpg, .txt and .json of each downloaded image
        OUTPUT/00000.parquet ...        all rows: status, error_message (reason first), sizes
        OUTPUT/00000_stats.json ...     number of downloaded images

Images are resized to the given shorter side, centre-cropped to a square and stored as JPEG. The
output does not depend on the number of processes and threads.
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

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic_folder
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data.addresses import parse_networks
from workflow_scripts.data.proxies import Proxies
from workflow_scripts.data.reasons import NO_CONNECTION

# Large enough to amortise the slowest URL of a tar, small enough to balance the processes.
_ROWS_PER_TAR = 3000
# If a part has at least this many rows and none connects, the network is assumed to be down.
_NETWORK_CHECK_ROWS = 100


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and download."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--part", type=Path, required=True, help="Parquet: row, url, caption")
    parser.add_argument("--output", type=Path, required=True, help="folder for the part's tars")
    parser.add_argument("--image-size", type=int, required=True, help="side in pixels")
    parser.add_argument("--jpeg-quality", type=int, required=True, help="1 to 100")
    parser.add_argument("--processes", type=int, default=1, help="number of processes (1)")
    parser.add_argument(
        "--threads-per-process", type=int, default=16, help="concurrent downloads per process"
    )
    parser.add_argument(
        "--timeout", type=float, required=True,
        help="seconds without data; a whole attempt may take six times as long",
    )  # fmt: skip
    parser.add_argument("--retries", type=int, required=True, help="retries of transient errors")
    parser.add_argument("--max-pixels", type=int, required=True, help="largest width x height")
    parser.add_argument("--max-bytes", type=int, required=True, help="largest response body")
    parser.add_argument(
        "--allow-private",
        action="append",
        default=[],
        metavar="NETWORK",
        help="non-public network that may be contacted, e.g. 127.0.0.0/8; can be repeated",
    )
    parser.add_argument(
        "--rows-per-tar", type=int, default=_ROWS_PER_TAR, help=f"images per tar ({_ROWS_PER_TAR})"
    )
    options = parser.parse_args(arguments)
    try:
        parse_networks(options.allow_private)
    except ValueError as error:
        raise StepError(f"--allow-private: {error}") from error
    Proxies()  # fails here, once, if a proxy variable is invalid
    # Albumentations, a dependency of img2dataset, would check the network for a newer version.
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
    """Make workers that are started inside this context keep their temporary files in ``folder``.

    Modules that img2dataset imports leave folders behind when their process is killed.
    """
    # Fix this process's own folder first: the paths of its workers' sockets have to be short.
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
    """Write the rows of each tar to a separate file, in the input format of img2dataset."""
    try:
        table = pq.read_table(part, columns=["row", "caption", "url"])
    except FileNotFoundError as error:
        raise StepError(f"part {part} does not exist; create it with urls.py") from error
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
    """Download all shards and update the progress bar."""
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
            "a download process was killed, probably because it ran out of memory; increase the "
            "job's memory, or lower --processes or --threads-per-process"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


# Importing img2dataset takes seconds: only the workers' fork server does it, once.
def _begin(settings: dict[str, Any], progress: Any) -> None:
    from workflow_scripts.data import fetching  # noqa: PLC0415

    fetching.begin(settings, progress)


def _download_shard(shard: tuple[int, str]) -> None:
    from workflow_scripts.data import fetching  # noqa: PLC0415

    fetching.download_shard(shard)


def _check(part: Path, folder: Path, rows: int) -> None:
    """Raise an error if rows are missing or if no URL could be reached."""
    if not rows:
        return
    files = sorted(folder.glob("*.parquet"))
    # With threads, Arrow may still release memory when the interpreter ends, which then aborts.
    tables = [pq.read_table(file, columns=["error_message"], use_threads=False) for file in files]
    messages = pa.concat_tables(tables)["error_message"].to_pandas()
    if len(messages) != rows:
        raise StepError(
            f"img2dataset lost {rows - len(messages)} of the {rows} rows of {part} (see its "
            "messages above); run the download again"
        )
    unreached = messages[messages.str.startswith(NO_CONNECTION, na=False)]
    if rows >= _NETWORK_CHECK_ROWS and len(unreached) == rows:
        raise StepError(
            f"none of the {rows} URLs of {part} could be reached ({unreached.iloc[0]}); check the "
            "network connection, or set http_proxy and https_proxy if a proxy is needed"
        )
    failed = messages.notna().sum()
    print(f"{rows - failed} of {rows} images downloaded")


if __name__ == "__main__":
    run_step(main)
