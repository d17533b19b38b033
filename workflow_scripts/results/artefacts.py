"""Collect the reports of an experiment's artefacts into one table.

Inputs  ROWS           the experiment's artefacts (JSON): their names, ids and start models
        report.json    of each artefact
Outputs OUTPUT         CSV: one row per artefact and start model
        OUTPUT with the suffix .html: the same numbers formatted
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.results.formatting import column_text, percent_text, value_text
from workflow_scripts.results.page import table_page
from workflow_scripts.results.table import write_csv

NUMBERS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "fpr_at_95_percent_tpr": "FPR at 95 % TPR",
    "recall_at_top_1_percent": "Recall in the top 1 %",
    "recall_at_top_10_percent": "Recall in the top 10 %",
}
_SHARES = (*NUMBERS, "prevalence")
_HIDDEN = ("id", "start")
_NOTE = (
    "Detectors assign each training pair a score; higher scores are more suspicious. Compare AUPRC "
    "(average precision) with the prevalence, the share of poisoned pairs, which is the expected "
    "AUPRC of a random score. Recall in the top 1 %: share of the poisoned pairs that are among "
    "the 1 % of pairs with the highest scores."
)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, required=True, help="the artefacts (JSON)")
    parser.add_argument("--root", type=Path, required=True, help="folder of the results")
    parser.add_argument("--output", type=Path, required=True, help="artefacts.csv")
    options = parser.parse_args(arguments)
    table = reports_table(read_json(options.rows), options.root)
    write_csv(options.output, table)
    lines = readable(table)
    page = table_page("Artefacts", list(lines), lines.to_numpy().tolist(), below=[_NOTE])
    with atomic(options.output.with_suffix(".html")) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(table.to_string(index=False))


def reports_table(rows: list[dict[str, Any]], root: Path) -> pd.DataFrame:
    """Return the rows, with the numbers of each artefact's report as further columns.

    Raises:
        StepError: A report is missing.
    """
    table = pd.DataFrame([row | _numbers(root, row["id"]) for row in rows])
    # The id follows what varies and precedes the numbers; see `varied_by_starts`.
    first = [*(key for key in rows[0] if key != "id"), "id"]
    return table[[*first, *(name for name in table if name not in first)]]


def varied_by_starts(table: pd.DataFrame) -> set[str]:
    """Return the columns of :func:`reports_table` in which start models differ."""
    names = list(table)
    return set(names[names.index("start_label") + 1 : names.index("id")])


def _numbers(root: Path, artefact: str) -> dict[str, Any]:
    path = root / "artefacts" / artefact / "report.json"
    if not path.is_file():
        raise StepError(f"{path} does not exist; build the artefact first")
    report = read_json(path)
    # Lists and mappings do not fit into a table cell.
    return {key: value for key, value in report.items() if not isinstance(value, list | dict)}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table formatted as text."""
    columns = [column for column in table if column not in _HIDDEN]
    texts = {}
    for column in columns:
        formatted = percent_text if column in _SHARES else value_text
        head = NUMBERS.get(column, column_text(column))
        texts[head] = [formatted(value) for value in table[column]]
    return pd.DataFrame(texts)


if __name__ == "__main__":
    run_step(main)
