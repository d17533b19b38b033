"""Time and memory of the steps that pass on all rows of a list of CC12M's size.

    python -m benchmarks.data_stages
    make benchmark-scale               all of CC12M's rows, minutes

Plain is: the same tables, in pandas, with all rows in memory. Ours are the steps as the workflow
runs them, each a process; --memory-gb is enforced: what asks for more address space fails.
The list and the pairs are made up, in a folder that is deleted.
"""

import argparse
import functools
import resource
import sys
import tempfile
from math import nan
from pathlib import Path

from benchmarks.made_up_list import ROWS, USABLE, write_evaluation, write_list, write_source
from benchmarks.measuring import Cost, cost_of, cost_of_command, header, rows

_EVALUATION = 50_000
_ROWS_OF_A_PART = 97_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=600_000, help=f"of the list; CC12M: {ROWS:,}")
    parser.add_argument("--parts", type=int, help="of the list; by default as CC12M is split")
    parser.add_argument("--threads", type=int, default=2, help="that read the list")
    parser.add_argument("--memory-gb", type=float, default=4, help="that one of our steps may have")
    parser.add_argument("--folder", type=Path, help="on a disk with room for four times the list")
    parser.add_argument("--ours-alone", action="store_true", help="do not measure the plain way")
    options = parser.parse_args()
    parts = options.parts or max(1, options.rows // _ROWS_OF_A_PART)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), parts, options)


def measure(folder: Path, parts: int, options: argparse.Namespace) -> None:
    tsv, source, dataset = folder / "list.tsv", folder / "source", folder / "dataset.parquet"
    evaluation, manifest = folder / "evaluation.parquet", source / "manifest.parquet"
    # In processes of their own: what is measured is no smaller than what starts it.
    cost_of(write_list, tsv, options.rows)
    cost_of(write_source, source, options.rows, parts)
    cost_of(write_evaluation, evaluation, _EVALUATION)
    pairs = int(options.rows * USABLE * 0.78)  # of CC12M's usable pairs, 6 million
    counts = f"--evaluation={evaluation} --output={folder}/duplicates.json"
    stages = {
        "urls": (
            f"--list={tsv} --columns=url,caption --parts={parts} --threads={options.threads} "
            f"--output={folder}/list",
            functools.partial(plain_urls, tsv, parts),
        ),
        "merge": (f"--source={source}", functools.partial(plain_merge, source)),
        "subset": (
            f"--manifest={manifest} --pairs={pairs} --output={dataset}",
            functools.partial(plain_subset, manifest, pairs),
        ),
        "duplicates": (
            f"--manifest={dataset} {counts}",
            functools.partial(plain_duplicates, dataset, evaluation),
        ),
    }
    header()
    for name, (arguments, plain) in stages.items():
        command = [sys.executable, "-m", f"workflow_scripts.data.{name}", *arguments.split()]
        limit = functools.partial(limit_memory, int(options.memory_gb * 1e9))
        with (folder / "log.txt").open("w") as log:
            ours = cost_of_command(command, preexec_fn=limit, stdout=log, stderr=log)
        theirs = Cost(nan, nan, nan) if options.ours_alone else cost_of(plain)
        rows(f"{name}, {options.rows:,} rows", ours, theirs)


def limit_memory(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def plain_urls(tsv: Path, parts: int) -> None:
    import numpy as np  # noqa: PLC0415 (in the process that is measured)
    import pandas as pd  # noqa: PLC0415

    table = pd.read_csv(tsv, sep="\t", quoting=3, names=["url", "caption"], on_bad_lines="skip")
    table = table[table["url"].str.match("https?://", na=False)].drop_duplicates("url")
    folder = tsv.with_name("plain")
    folder.mkdir()
    edges = np.linspace(0, len(table), parts + 1).astype(int)
    for part in range(parts):
        rows = table.iloc[edges[part] : edges[part + 1]]
        rows.to_parquet(folder / f"{part:05d}.parquet", compression="zstd")


def plain_merge(source: Path) -> None:
    import pandas as pd  # noqa: PLC0415

    tables = [pd.read_parquet(part) for part in sorted((source / "pairs").glob("*.parquet"))]
    table = pd.concat(tables, ignore_index=True)
    if table["key"].duplicated().any():
        raise ValueError("a key stands twice")
    table.to_parquet(source / "plain.parquet", compression="zstd")


def plain_subset(manifest: Path, pairs: int) -> None:
    import pandas as pd  # noqa: PLC0415

    table = pd.read_parquet(manifest).iloc[:pairs]
    table.to_parquet(manifest.with_name("plain.parquet"), compression="zstd")


def plain_duplicates(dataset: Path, evaluation: Path) -> None:
    import pandas as pd  # noqa: PLC0415

    pairs, there = pd.read_parquet(dataset)["sha256"], pd.read_parquet(evaluation)["sha256"]
    print(f"# shared: {pairs.isin(there).sum()}, repeated: {pairs.duplicated().sum()}")


if __name__ == "__main__":
    main()
