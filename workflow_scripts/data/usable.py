"""Find the usable pairs of one part: those whose image decodes and whose caption has letters.

Inputs  PART                       row, url, caption (from urls.py)
        SHARDS/00000.tar ...       the part's images (from download.py)
Outputs OUTPUT                     manifest of the usable pairs, in list order
        OUTPUT with .json          number of rows, and of lost rows by reason

The key of a pair is its row number in the list, so keys are unique across the parts of a source.
Images are read back from the tars: a truncated tar or a missing image is an error, while an image
that does not decode is counted as a lost row.
"""

import argparse
import tarfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import relative_to, write_json
from workflow_scripts.common.workers import worker_pool
from workflow_scripts.data import reasons
from workflow_scripts.data.manifest import ImageReader, digest_column, write_manifest

_USABLE = "usable"
_NO_ROWS = pd.DataFrame(columns=["row", "tar", "offset", "size", "sha256", "reason"]).astype(
    {"row": "int64", "offset": "int64", "size": "int64"}
)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the part's manifest and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", type=Path, required=True, help="Parquet: row, url, caption")
    parser.add_argument("--shards", type=Path, required=True, help="folder of the part's tars")
    parser.add_argument("--root", type=Path, required=True, help="results root, contains the tars")
    parser.add_argument(
        "--min-size",
        type=int,
        required=True,
        help="minimum of the shorter side of an original image, in pixels",
    )
    parser.add_argument("--workers", type=int, default=1, help="number of decoding processes")
    parser.add_argument("--output", type=Path, required=True, help="manifest of the usable pairs")
    options = parser.parse_args(arguments)
    part = pq.read_table(options.part, columns=["row", "caption"])
    tars = sorted(options.shards.glob("*.tar"))
    folder = relative_to(options.shards, options.root)
    scan = partial(scan_tar, root=options.root, folder=folder, min_size=options.min_size)
    with worker_pool(options.workers, preload=["workflow_scripts.data.images"]) as pool:
        found = _scan_all(scan, tars, pool)
    pairs = _join(part, found, options)
    usable = pairs[pairs["reason"] == _USABLE]
    usable = usable.assign(sha256=digest_column(bytes.fromhex("".join(usable["sha256"]))))
    write_manifest(options.output, usable)
    counts = pairs["reason"].value_counts()
    report = {
        "rows": len(pairs),
        _USABLE: len(usable),
        "lost": {reason: int(counts[reason]) for reason in reasons.REASONS if reason in counts},
    }
    write_json(options.output.with_suffix(".json"), report)
    print(f"{len(usable)} of {len(pairs)} rows are usable; lost: {report['lost']}")


def _scan_all(scan: partial, tars: list[Path], pool: ProcessPoolExecutor) -> pd.DataFrame:
    scanned = tqdm(pool.map(scan, tars), "tars", len(tars), mininterval=5)
    try:
        return pd.concat([_NO_ROWS, *scanned], ignore_index=True)
    except BrokenProcessPool as error:
        raise StepError(
            "a decoding process was killed, probably because it ran out of memory; increase the "
            "job's memory, or lower --workers"
        ) from error


def scan_tar(path: Path, *, root: Path, folder: str, min_size: int) -> pd.DataFrame:
    """Check all rows of one tar.

    Args:
        path: The tar, with img2dataset's Parquet file of the same name next to it.
        root: The results root.
        folder: The tar's folder, relative to ``root``.
        min_size: Minimum of the shorter side of an original image, in pixels.

    Returns:
        One row per list row of the tar: ``row``, ``tar`` (relative to the root), ``offset``,
        ``size``, ``sha256`` (hex) of the original file, and ``reason`` (why the row is lost, or
        ``"usable"``).

    Raises:
        StepError: The tar is broken or lacks images that were downloaded.
    """
    rows = _downloaded(path)
    rows = rows.merge(_images(path), on="row", how="left")
    rows["tar"] = f"{folder}/{path.name}"
    downloaded = rows["reason"] == _USABLE
    missing = int((downloaded & rows["offset"].isna()).sum())
    if missing:
        raise StepError(f"{path} lacks {missing} images that were downloaded; {_remedy(path)}")
    shorter = rows[["original_width", "original_height"]].min(axis=1)
    rows.loc[downloaded & (shorter < min_size), "reason"] = reasons.TOO_SMALL
    candidates = rows[rows["reason"] == _USABLE]
    broken = _broken(candidates, ImageReader(root))
    rows.loc[candidates.index[broken], "reason"] = reasons.BROKEN
    rows[["offset", "size"]] = rows[["offset", "size"]].fillna(-1).astype("int64")
    return rows[["row", "tar", "offset", "size", "sha256", "reason"]]


def _remedy(path: Path) -> str:
    return f"delete the folder {path.parent} to download this part again"


def _downloaded(path: Path) -> pd.DataFrame:
    """Read img2dataset's report about the rows of a tar; its messages begin with the reason."""
    columns = ["row", "status", "error_message", "original_width", "original_height", "sha256"]
    try:
        rows = pd.read_parquet(path.with_suffix(".parquet"), columns=columns)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise StepError(
            f"{path.with_suffix('.parquet')} is missing or broken; {_remedy(path)}"
        ) from error
    reported = rows["error_message"].astype("string").str.partition(":")[0]
    # Any other message is img2dataset's and means that the image could not be resized.
    reason = reported.where(reported.isin(list(reasons.REASONS)), reasons.BROKEN)
    rows["reason"] = reason.where(rows["status"] != "success", _USABLE).astype(object)
    return rows


def _images(path: Path) -> pd.DataFrame:
    """List the images of a tar: row (their name), offset and size in bytes."""
    found = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name, _, kind = member.name.partition(".")
                if member.isreg() and kind == "jpg" and name.isdecimal():
                    found.append((int(name), member.offset_data, member.size))
                # Do not keep a list of all members in memory.
                tar.members = []  # type: ignore[attr-defined]  # not in typeshed
    except tarfile.TarError as error:
        raise StepError(f"{path} is a broken tar ({error}); {_remedy(path)}") from error
    frame = pd.DataFrame(found, columns=["row", "offset", "size"])
    if frame["row"].duplicated().any() or _ends_early(path, found):
        raise StepError(f"{path} is a broken tar; {_remedy(path)}")
    return frame


def _ends_early(path: Path, found: list[tuple[int, int, int]]) -> bool:
    """Return whether the last image is truncated, which tarfile does not notice."""
    return bool(found) and found[-1][1] + found[-1][2] > path.stat().st_size


def _broken(rows: pd.DataFrame, reader: ImageReader) -> list[int]:
    """Return the positions of the rows whose image does not decode."""
    # Imported here because importing torch takes seconds.
    from workflow_scripts.data.images import decode_image  # noqa: PLC0415

    broken = []
    for index, (tar, offset, size) in enumerate(
        zip(rows["tar"], rows["offset"], rows["size"], strict=True)
    ):
        try:
            decode_image(reader.read(tar, int(offset), int(size)))
        except ValueError:
            broken.append(index)
    return broken


def _join(part: pa.Table, found: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """Add captions and keys to the results of the scan, in the order of the part's rows."""
    caption = part["caption"]
    frame = part.to_pandas(types_mapper={pa.string(): pd.StringDtype("pyarrow")}.get)
    if sorted(found["row"]) != frame["row"].tolist():
        raise StepError(
            f"{options.shards} does not contain the rows of {options.part}; delete the folder to "
            "download this part again"
        )
    frame = frame.merge(found, on="row", how="left", validate="one_to_one")
    letters = pc.match_substring_regex(caption, r"\p{L}").to_numpy(zero_copy_only=False)
    frame.loc[(frame["reason"] == _USABLE) & ~letters, "reason"] = reasons.NO_LETTERS
    frame["key"] = frame["row"].astype(str).str.zfill(9)
    frame["poisoned"] = False
    return frame


if __name__ == "__main__":
    run_step(main)
