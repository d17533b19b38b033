"""Generate synthetic lists and pairs with the size of CC12M and the flaws of a scraped list.

python -m benchmarks.made_up_list --rows 12423374 --output list.tsv        2.6 GB
"""

import argparse
import functools
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workflow_scripts.common.files import write_json
from workflow_scripts.data.manifest import EVALUATION_SCHEMA, SCHEMA

ROWS = 12_423_374  # rows of CC12M
USABLE = 0.62  # fraction of its URLs that were alive in 2025 and 2026
_BLOCK = 1 << 18
_HOSTS = 100_000
_WORDS = 30_000
# Fractions of rows.
_REPEATED, _NOT_HTTP, _MALFORMED = 0.01, 0.001, 0.001
_DIGEST = pa.field("sha256", pa.binary(32), nullable=False)
_FACTORS = (0x9E3779B97F4A7C15, 0xD6E8FEB8669FD)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--output", type=Path, required=True, help="TSV file: URL, caption")
    options = parser.parse_args()
    write_list(options.output, options.rows)


def write_list(path: Path, rows: int) -> None:
    """Write a TSV of ``rows`` lines, about 203 bytes each: a URL and a caption."""
    draw = np.random.default_rng(0)
    with path.open("wb") as file:
        for start in range(0, rows, _BLOCK):
            lines = _lines(np.arange(start, min(start + _BLOCK, rows)), draw)
            file.write(lines.buffers()[2])


def write_source(folder: Path, rows: int, parts: int) -> None:
    """Write the inputs of merge.py: manifests and reports of parts, and urls.json."""
    draw = np.random.default_rng(0)
    edges = np.linspace(0, rows, parts + 1).astype(int)
    (folder / "pairs").mkdir(parents=True)
    for part, (start, end) in enumerate(itertools.pairwise(edges)):
        usable = start + np.flatnonzero(draw.random(end - start) < USABLE)
        pairs = _pairs(usable, f"shards/cc12m-224px-0123abcd/{part:05d}", draw)
        pq.write_table(pairs, folder / "pairs" / f"{part:05d}.parquet", compression="zstd")
        lost = {"not found": int(end - start - len(usable))}
        report = {"rows": int(end - start), "usable": len(usable), "lost": lost}
        write_json(folder / "pairs" / f"{part:05d}.json", report)
    write_json(folder / "urls.json", {"list": "", "rows": rows, "dropped": {}, "parts": parts})


def write_evaluation(path: Path, rows: int) -> None:
    """Write the manifest of an evaluation set that shares some images with the pairs."""
    draw = np.random.default_rng(0)
    pairs = _pairs(np.arange(rows) * 1000, "evaluation", draw)
    labels = pa.array(draw.integers(0, 1000, rows))
    table = pairs.add_column(len(SCHEMA), EVALUATION_SCHEMA.field("label"), labels)
    pq.write_table(table, path, compression="zstd")


def captions(rows: int, draw: np.random.Generator) -> pa.StringArray:
    """Return captions of 3 to 29 words, whose frequencies follow Zipf's law."""
    words, ranks = _vocabulary()
    edges = np.concatenate([[0], draw.integers(3, 30, rows).cumsum()])
    flat = pc.take(words, pa.array(ranks[draw.integers(0, len(ranks), edges[-1])]))
    # The buffer contains all words, each followed by a space, so captions are slices of it.
    _, offsets, data = flat.buffers()
    offsets = pa.py_buffer(np.frombuffer(offsets, np.int32)[edges])
    return pc.ascii_rtrim(pa.StringArray.from_buffers(rows, offsets, data), " ")


@functools.cache
def _vocabulary() -> tuple[pa.StringArray, np.ndarray]:
    """Return words, and a million indices of words drawn in proportion to their frequency."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(draw.choice(letters[: 8 + i % 19], 2 + i % 11)) + " " for i in range(_WORDS)]
    weights = 1 / np.arange(1, _WORDS + 1) ** 0.6
    return pa.array(words), draw.choice(_WORDS, 1_000_000, p=weights / weights.sum())


def _lines(numbers: np.ndarray, draw: np.random.Generator) -> pa.StringArray:
    rows = len(numbers)
    numbers = np.where(draw.random(rows) < _REPEATED, draw.integers(0, numbers + 1), numbers)
    # Paths look random but depend on the number only: a repeated number gives the same URL.
    numbers = numbers.astype(np.uint64)
    digits = [_hexadecimal(numbers * np.uint64(factor)) for factor in _FACTORS]
    host = pc.cast(pa.array(numbers * 7919 % _HOSTS), pa.string())
    kind = draw.random(rows)
    scheme = pa.array(np.where(kind < _NOT_HTTP, "ftp", "https").astype(object))
    tab = pa.array(np.where(kind > 1 - _MALFORMED, " ", "\t").astype(object))
    url = [scheme, "://images", host, ".example.com/media/", digits[0], "/", digits[1], ".jpg"]
    return pc.binary_join_element_wise(*url, tab, captions(rows, draw), "\n", "")


def _hexadecimal(numbers: np.ndarray) -> pa.StringArray:
    data = numbers.astype("<u8").tobytes().hex().encode()
    edges = np.arange(0, len(data) + 1, 16, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(edges), pa.py_buffer(data))


def _pairs(numbers: np.ndarray, folder: str, draw: np.random.Generator) -> pa.Table:
    """Return rows of a manifest with digests; equal numbers have the same image."""
    rows = len(numbers)
    keys = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), 9, "0")
    tars = pa.array([f"{folder}/{i // 3000:05d}.tar" for i in range(rows)])
    sizes = draw.integers(5_000, 60_000, rows)
    same = np.where(draw.random(rows) < _REPEATED, draw.integers(0, numbers + 1), numbers)
    words = same.astype(np.uint64)[:, None] * np.array([*_FACTORS, *_FACTORS], np.uint64)
    digests = pa.FixedSizeBinaryArray.from_buffers(
        _DIGEST.type, rows, [None, pa.py_buffer(words.tobytes())]
    )
    columns = [keys, tars, pa.array(sizes.cumsum()), pa.array(sizes), captions(rows, draw)]
    poisoned = pa.array(np.zeros(rows, bool))
    return pa.table([*columns, poisoned, digests], schema=SCHEMA.append(_DIGEST))


if __name__ == "__main__":
    main()
