"""Get a list of URLs and captions, drop what cannot be downloaded, split it into parts.

Needs   a TSV, CSV or Parquet, by path or by http(s) URL
Makes   OUTPUT/urls.parquet              row, url, caption: what is left of the list, in its order
        OUTPUT/parts/00000.parquet ...   the same in as many contiguous parts as asked for
        OUTPUT/urls.json                 rows in the list, and how many were dropped and why
"""

import argparse
import itertools
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, sha256, write_json
from workflow_scripts.common.redact import redact
from workflow_scripts.data.lists import FORMATS, format_of, read_list
from workflow_scripts.data.reasons import DUPLICATE, MALFORMED, NOT_HTTP
from workflow_scripts.data.web import fetch

_HTTP = r"^(?i:https?)://[^/\s]"


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
        help="the first line of a TSV or CSV names the columns",
    )
    parser.add_argument("--bytes", type=int, help="size that the list must have")
    parser.add_argument("--sha256", help="hex digest that the list must have")
    parser.add_argument("--parts", type=int, required=True, help="number of parts")
    parser.add_argument("--output", type=Path, required=True, help="folder of the source")
    options = parser.parse_args(arguments)
    if options.parts < 1:
        raise StepError(f"--parts {options.parts} makes no sense; a list has one part or more")
    path, fetched = _get(options.list, options.output)
    digest = _check(path, options)
    format = format_of(path.name) if options.format == "auto" else options.format
    table, rows = read_list(path, format, options.columns.split(","), options.header)
    kept, dropped = _drop(table)
    dropped = {MALFORMED: rows - len(table), **dropped}
    if rows and not len(kept):
        raise StepError(
            f"no row of {options.list} has an http(s) URL in its column 'url' (dropped: {dropped});"
            " are --columns and --format right?"
        )
    _write(options.output, kept, options.parts)
    report = {
        "list": redact(options.list),
        "bytes": path.stat().st_size,
        "sha256": digest,
        "rows": rows,
        "kept": len(kept),
        "dropped": dropped,
        "parts": options.parts,
    }
    write_json(options.output / "urls.json", report)
    print(f"{len(kept)} of {rows} rows kept; dropped: {dropped}")
    for file in fetched:
        file.unlink(missing_ok=True)


def _get(place: str, folder: Path) -> tuple[Path, list[Path]]:
    """Return where the list is on this machine, and what may be deleted afterwards."""
    if urlsplit(place).scheme.lower() in ("http", "https"):
        name = "".join(PurePosixPath(urlsplit(place).path).suffixes[-2:])
        path = fetch(place, folder / f"list{name}")
        return path, [path, path.with_name(f"{path.name}.json")]
    if "://" in place:
        raise StepError(f"the list {place} is neither a path nor an http(s) URL")
    path = Path(place)
    if not path.is_file():
        raise StepError(f"there is no list {place}; give its path or URL")
    return path, []


def _check(path: Path, options: argparse.Namespace) -> str:
    """Return the list's digest, if it and the size are what they must be."""
    size = path.stat().st_size
    advice = f"the list has changed, or {path} is not it: put it right or delete it"
    if options.bytes is not None and size != options.bytes:
        raise StepError(f"{options.list} has {size} bytes, not {options.bytes}; {advice}")
    digest = sha256(path)
    if options.sha256 and digest != options.sha256.lower():
        raise StepError(f"{options.list} has SHA-256 {digest}, not {options.sha256}; {advice}")
    return digest


def _drop(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Leave out URLs that are not http(s), and those that stand in an earlier row."""
    web = table.filter(pc.match_substring_regex(table["url"], _HTTP))
    codes = web["url"].combine_chunks().dictionary_encode().indices.to_numpy()
    # Codes are given out in order of appearance: a new URL has the largest code so far.
    first = np.diff(np.maximum.accumulate(codes), prepend=-1) > 0
    kept = web.filter(pa.array(first))
    return kept, {NOT_HTTP: len(table) - len(web), DUPLICATE: len(web) - len(kept)}


def _write(folder: Path, table: pa.Table, parts: int) -> None:
    """Write the whole table and its slices, and no slice of an earlier number of parts."""
    edges = np.linspace(0, len(table), parts + 1).round().astype(int)
    for number, (start, end) in enumerate(itertools.pairwise(edges)):
        _write_parquet(folder / "parts" / f"{number:05d}.parquet", table.slice(start, end - start))
    for stale in sorted((folder / "parts").glob("*.parquet"))[parts:]:
        stale.unlink()
    _write_parquet(folder / "urls.parquet", table)


def _write_parquet(path: Path, table: pa.Table) -> None:
    with atomic(path) as temporary:
        # Without Arrow's own schema, text is plain Parquet text, of whatever size.
        pq.write_table(table, temporary, compression="zstd", store_schema=False)


if __name__ == "__main__":
    run_step(main)
