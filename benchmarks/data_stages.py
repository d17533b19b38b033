"""Measure time and memory of the steps that process all rows of a list as large as CC12M.

    python -m benchmarks.data_stages
    make benchmark-scale               with the number of rows of CC12M; takes minutes

The baseline computes the same tables in pandas with all rows in memory. Each step is run as in the
workflow, in a separate process whose address space is limited to --memory-gb. The list and the
pairs are synthetic, in a temporary folder.
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
_ROWS_PER_PART = 97_000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=600_000, help=f"rows of the list; CC12M has {ROWS:,}"
    )
    parser.add_argument("--parts", type=int, help="parts of the list; default: as for CC12M")
    parser.add_argument("--threads", type=int, default=2, help="threads that read the list")
    parser.add_argument("--memory-gb", type=float, default=4, help="memory limit of each step")
    parser.add_argument(
        "--folder", type=Path, help="temporary folder with room for four times the list"
    )
    parser.add_argument("--ours-alone", action="store_true", help="do not measure the baseline")
    options = parser.parse_args()
    parts = options.parts or max(1, options.rows // _ROWS_PER_PART)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), parts, options)


def measure(folder: Path, parts: int, options: argparse.Namespace) -> None:
    tsv, source, dataset = folder / "list.tsv", folder / "source", folder / "dataset.parquet"
    evaluation, manifest = folder / "evaluation.parquet", source / "manifest.parquet"
    # In separate processes, because the measured peak memory is at least that of this process.
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
        "merge": (
            f"--source={source} --urls={source}/urls.json",
            functools.partial(plain_merge, source),
        ),
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
        baseline = Cost(nan, nan, nan) if options.ours_alone else cost_of(plain)
        rows(f"{name}, {options.rows:,} rows", ours, baseline)


def limit_memory(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def plain_urls(tsv: Path, parts: int) -> None:
    import numpy as np  # noqa: PLC0415 (imported in the measured process)
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
        raise ValueError("a key is duplicated")
    table.to_parquet(source / "plain.parquet", compression="zstd")


def plain_subset(manifest: Path, pairs: int) -> None:
    import pandas as pd  # noqa: PLC0415

    table = pd.read_parquet(manifest).iloc[:pairs]
    table.to_parquet(manifest.with_name("plain.parquet"), compression="zstd")


def plain_duplicates(dataset: Path, evaluation: Path) -> None:
    import pandas as pd  # noqa: PLC0415

    pairs, images = pd.read_parquet(dataset)["sha256"], pd.read_parquet(evaluation)["sha256"]
    print(f"# shared: {pairs.isin(images).sum()}, repeated: {pairs.duplicated().sum()}")


if __name__ == "__main__":
    main()
