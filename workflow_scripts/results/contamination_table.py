"""Tabulate the contamination of an experiment's data sets: one row per start model and split.

Inputs  REPORTS       report.json of clean splits (poison/clean_split.py)
        DUPLICATES    counts of evaluation images in their datasets (data/duplicates.py)
Outputs OUTPUT        CSV: start, pairs, originals_of_victims, poisoned_left, duplicates
"""

import argparse
from pathlib import Path

import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import read_json
from workflow_scripts.results.table import write_csv


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--starts", nargs="+", required=True, help="run ids of start models")
    parser.add_argument(
        "--reports", nargs="+", type=Path, required=True,
        help="report.json of each start model's clean split",
    )  # fmt: skip
    parser.add_argument(
        "--duplicates", nargs="+", type=Path, required=True,
        help="contamination/<dataset>-in-<set>.json of each start model's dataset",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="CSV file")
    options = parser.parse_args(arguments)
    if not len(options.starts) == len(options.reports) == len(options.duplicates):
        raise StepError("--starts, --reports and --duplicates must have the same number of values")
    reports, duplicates = (
        [read_json(path, missing="build it first") for path in paths]
        for paths in (options.reports, options.duplicates)
    )
    table = leaks_table(options.starts, reports, duplicates)
    write_csv(options.output, table)
    print(table.to_string(index=False))


def leaks_table(starts: list[str], reports: list[dict], duplicates: list[dict]) -> pd.DataFrame:
    """Return one row per start model and clean split; all lists have the same length.

    Returns:
        ``start`` (a run id); the number of ``pairs`` in the split, of ``originals_of_victims``
        and of ``poisoned_left`` among them; ``duplicates``: evaluation images that are
        byte-identical to a pre-training image.
    """
    counts = ["pairs", "originals_of_victims", "poisoned_left"]
    table = pd.DataFrame(reports)[counts].astype("Int64")
    table.insert(0, "start", starts)
    return table.assign(duplicates=[count["evaluation_images_in_pairs"] for count in duplicates])


if __name__ == "__main__":
    run_step(main)
