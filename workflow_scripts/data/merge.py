"""Merge the usable pairs of a source's parts into one manifest, and count the lost rows.

Inputs  URLS                        urls.json of the list (from urls.py)
        SOURCE/pairs/00000.parquet  and 00000.json ... (from usable.py)
Outputs SOURCE/manifest.parquet     usable pairs of all parts, in list order
        SOURCE/losses.csv           reason, rows, meaning; the rows add up to the length of the list
"""

import argparse
import itertools
from collections import Counter
from pathlib import Path

import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.data.pair_stream import count_pairs, read_pairs, write_pairs
from workflow_scripts.data.reasons import REASONS

_USABLE = "usable"
_MISSING = "run the step that creates it"


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the source's manifest and its table of lost rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--urls", type=Path, required=True, help="urls.json of the list")
    parser.add_argument("--source", type=Path, required=True, help="folder of the source")
    options = parser.parse_args(arguments)
    source, urls = options.source, read_json(options.urls, missing=_MISSING)
    parts = [source / "pairs" / f"{part:05d}.parquet" for part in range(urls["parts"])]
    reports = [read_json(part.with_suffix(".json"), missing=_MISSING) for part in parts]
    usable = sum(count_pairs(part) for part in parts)
    losses = Counter(urls["dropped"])
    for report in reports:
        losses.update(report["lost"])
    rows = usable + losses.total()
    if rows != urls["rows"] or usable != sum(report[_USABLE] for report in reports):
        raise StepError(
            f"the parts of {source} account for {rows} rows, but the list has {urls['rows']}; "
            f"delete {source / 'pairs'} and the source's shards, and run the workflow again"
        )
    if not usable:
        raise StepError(f"no row of {urls['list']} is a usable pair (lost: {dict(losses)})")
    pairs = itertools.chain.from_iterable(map(read_pairs, parts))
    write_pairs(source / "manifest.parquet", pairs)
    _write_losses(source / "losses.csv", losses, usable)


def _write_losses(path: Path, losses: Counter, usable: int) -> None:
    lost = [(reason, losses[reason], REASONS[reason]) for reason in REASONS if losses[reason]]
    table = pd.DataFrame(
        [(_USABLE, usable, "the image decodes and the caption has letters"), *lost],
        columns=["reason", "rows", "meaning"],
    )
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    run_step(main)
