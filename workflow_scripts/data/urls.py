"""Read a list of URLs and captions, drop unusable rows, and split the list into parts.

Inputs  a TSV, CSV or Parquet file, by path or http(s) URL
Outputs OUTPUT/parts/00000.parquet ...   row, url, caption: the remaining rows in list order, in the
                                         requested number of contiguous parts
        OUTPUT/urls.json                 number of rows, and of dropped rows by reason

The list is not held in memory: rows are spooled to a file in OUTPUT until all duplicate URLs are
known.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, sha256, write_json
from workflow_scripts.common.pools import in_order
from workflow_scripts.common.redact import redact
from workflow_scripts.data.lists import FORMATS, SCHEMA, format_of, read_list
from workflow_scripts.data.reasons import DUPLICATE, MALFORMED, NOT_HTTP
from workflow_scripts.data.repeats import repeated
from workflow_scripts.data.spool import Spool
from workflow_scripts.data.web import fetch

_HTTP = r"^(?i:https?)://[^/\s]"
# Without Arrow's schema, large_string columns are stored as plain Parquet strings. A dictionary
# would not help, as few texts are repeated.
_PARQUET = {"compression": "zstd", "store_schema": False, "use_dictionary": False}
_GROUP = 1 << 17  # rows of a part in memory at a time


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the parts."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        fromfile_prefix_chars="@",
    )
    parser.add_argument("--list", required=True, help="path or http(s) URL of the list")
    parser.add_argument("--format", choices=["auto", *FORMATS], default="auto")
    parser.add_argument(
        "--columns", required=True, help="names of the columns in order, e.g. url,caption"
    )
    parser.add_argument(
        "--header",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="whether the first line of a TSV or CSV contains the column names",
    )
    parser.add_argument("--bytes", type=int, help="expected size of the list")
    parser.add_argument("--sha256", help="expected SHA-256 of the list, in hex")
    parser.add_argument("--parts", type=int, required=True, help="number of parts")
    parser.add_argument("--threads", type=int, default=1, help="threads that parse and write")
    parser.add_argument("--output", type=Path, required=True, help="folder of the list")
    options = parser.parse_args(arguments)
    if options.parts < 1:
        raise StepError(f"--parts must be at least 1, got {options.parts}")
    path, fetched = _get(options.list, options.output)
    digest = _check(path, options)
    format = format_of(path.name) if options.format == "auto" else options.format
    columns = options.columns.split(",")
    with Spool(options.output / ".rows.partial.arrow", SCHEMA) as spool:
        blocks = read_list(path, format, columns, options.header, options.threads)
        rows, malformed, hashes = _spool_web(blocks, spool)
        first = _first_of_each(spool, hashes)
        kept = int(first.sum())
        dropped = {MALFORMED: malformed, NOT_HTTP: rows - malformed - len(spool)}
        dropped[DUPLICATE] = len(spool) - kept
        if rows and not kept:
            raise StepError(
                f"no row of {options.list} has an http(s) URL in column 'url' (dropped: "
                f"{dropped}); check --columns and --format"
            )
        _write(options.output / "parts", spool, first, options)
    report = {
        "list": redact(options.list),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "rows": rows,
        "kept": kept,
        "dropped": dropped,
        "parts": options.parts,
    }
    write_json(options.output / "urls.json", report)
    print(f"{kept} of {rows} rows kept; dropped: {dropped}")
    for file in fetched:
        file.unlink(missing_ok=True)


def _get(location: str, folder: Path) -> tuple[Path, list[Path]]:
    """Return the local path of the list, and the files that can be deleted afterwards."""
    if urlsplit(location).scheme.lower() in ("http", "https"):
        name = "".join(PurePosixPath(urlsplit(location).path).suffixes[-2:])
        path = fetch(location, folder / f"list{name}")
        return path, [path, path.with_name(f"{path.name}.json")]
    if "://" in location:
        raise StepError(f"list {location} is neither a path nor an http(s) URL")
    path = Path(location)
    if not path.is_file():
        raise StepError(f"list {location} does not exist; correct its path or URL")
    return path, []


def _check(path: Path, options: argparse.Namespace) -> str:
    """Return the list's SHA-256, after checking it and the size against the expected values."""
    size = path.stat().st_size
    advice = f"the list has changed, or {path} is the wrong file: replace or delete it"
    if options.bytes is not None and size != options.bytes:
        raise StepError(f"{options.list} has {size} bytes, expected {options.bytes}; {advice}")
    digest = sha256(path)
    if options.sha256 and digest != options.sha256.lower():
        raise StepError(f"{options.list} has SHA-256 {digest}, expected {options.sha256}; {advice}")
    return digest


def _spool_web(blocks: Iterator[tuple[pa.Table, int]], spool: Spool) -> tuple[int, int, np.ndarray]:
    """Store the rows that have an http(s) URL.

    Returns:
        The number of rows, the number of malformed rows, and the hash (uint64) of the URL of each
        stored row.
    """
    rows, malformed, hashes = 0, 0, [np.empty(0, np.uint64)]
    # In a thread of its own, while this one writes.
    for web, of_urls, well_formed, count in in_order(_web_rows, blocks, threads=1):
        rows, malformed = rows + count, malformed + count - well_formed
        spool.add(web)
        hashes.append(of_urls)
    spool.finish()
    return rows, malformed, np.concatenate(hashes)


def _web_rows(block: tuple[pa.Table, int]) -> tuple[pa.Table, np.ndarray, int, int]:
    """Return the rows with an http(s) URL, the hashes of their URLs, and the block's numbers."""
    table, count = block
    web = table.filter(pc.match_substring_regex(table["url"], _HTTP))
    return web, pd.util.hash_array(web["url"].to_numpy(), categorize=False), len(table), count


def _first_of_each(spool: Spool, hashes: np.ndarray) -> np.ndarray:
    """Return a mask of the first row with each URL, bool [rows].

    Only URLs with equal hashes are compared.
    """
    is_repeated = repeated(hashes)
    first, seen = np.ones(len(hashes), bool), set()
    for start, batch in spool.read(0, len(spool), ["url"]):
        indices = np.flatnonzero(is_repeated[start : start + len(batch)])
        for index, url in zip(indices, batch["url"].take(indices).to_pylist(), strict=True):
            first[start + index] = url not in seen
            seen.add(url)
    return first


def _write(folder: Path, spool: Spool, kept: np.ndarray, options: argparse.Namespace) -> None:
    """Write the kept rows in parts, and delete the parts of an earlier run with more parts."""
    edges = np.linspace(0, kept.sum(), options.parts + 1).round().astype(int)
    # The first row of each part, which is a kept one, and the end of the list.
    starts = np.append(np.flatnonzero(kept), len(kept))[edges]

    def write(part: tuple[int, tuple[int, int]]) -> None:
        number, (start, end) = part
        with (
            atomic(folder / f"{number:05d}.parquet") as temporary,
            pq.ParquetWriter(temporary, SCHEMA, **_PARQUET) as file,
        ):
            for group in range(start, end, _GROUP):
                batches = [
                    batch.filter(pa.array(kept[first : first + len(batch)]))
                    for first, batch in spool.read(group, min(end, group + _GROUP))
                ]
                file.write_table(pa.Table.from_batches(batches, SCHEMA))

    for _ in in_order(write, enumerate(itertools.pairwise(starts)), options.threads):
        pass
    for stale in sorted(folder.glob("*.parquet"))[options.parts :]:
        stale.unlink()


if __name__ == "__main__":
    run_step(main)
