"""Make a dataset from the first N usable pairs of a source."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.data.pair_stream import count_pairs, read_pairs, write_pairs


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the dataset's manifest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="manifest of the source")
    parser.add_argument("--pairs", required=True, help='number of pairs, or "all"')
    parser.add_argument("--output", type=Path, required=True, help="manifest of the dataset")
    options = parser.parse_args(arguments)
    available = count_pairs(options.manifest)
    wanted = _number(options.pairs, available)
    if wanted > available:
        raise StepError(
            f"{options.manifest} has {available} usable pairs, but --pairs is {wanted}; use a "
            'smaller number or "all"'
        )
    write_pairs(options.output, _first(read_pairs(options.manifest), wanted))


def _first(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    for table in tables:
        yield table.slice(0, rows)
        rows -= len(table)
        if rows <= 0:
            return


def _number(pairs: str, available: int) -> int:
    if pairs == "all":
        return available
    if not pairs.isdecimal() or int(pairs) < 1:
        raise StepError(f'--pairs must be a positive integer or "all", got {pairs!r}')
    return int(pairs)


if __name__ == "__main__":
    run_step(main)
