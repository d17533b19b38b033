"""The reports of an experiment's artefacts as one table.

Needs   ROWS           the experiment's artefacts (JSON): their names, ids and start models
        report.json    of each of them
Makes   OUTPUT         CSV: a row for each artefact and start model
        .html          beside it: the same for people
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.results.page import table_page
from workflow_scripts.results.table import write_csv
from workflow_scripts.results.text import column_text, percent_text, value_text

_NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "tpr_at_1_percent_fpr": "TPR at 1 % FPR",
    "recall_at_top_1_percent": "Recall in the top 1 %",
    "recall_at_top_10_percent": "Recall in the top 10 %",
}
_SHARES = (*_NAMES, "prevalence")
_HIDDEN = ("id", "start")
_NOTE = (
    "Detectors score each training pair, high for suspicious ones. AUPRC (average precision) is to "
    "be compared with the prevalence, the share of poisoned pairs, which is what a random score "
    "has. Recall in the top 1 %: share of the poisoned pairs that are among the 1 % of the pairs "
    "with the highest scores."
)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=Path, required=True, help="of the experiment (JSON)")
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
    """Return each row with the numbers of its artefact's report as further columns.

    Raises:
        StepError: A report is missing.
    """
    return pd.DataFrame([row | _numbers(root, row["id"]) for row in rows])


def _numbers(root: Path, artefact: str) -> dict[str, Any]:
    path = root / "artefacts" / artefact / "report.json"
    if not path.is_file():
        raise StepError(f"{path} does not exist; make the artefact first")
    report = read_json(path)
    # Of lists and mappings, a table has no place.
    return {key: value for key, value in report.items() if not isinstance(value, list | dict)}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table as texts."""
    columns = [column for column in table if column not in _HIDDEN]
    texts = {}
    for column in columns:
        say = percent_text if column in _SHARES else value_text
        head = _NAMES.get(column, column_text(column))
        texts[head] = [say(value) for value in table[column]]
    return pd.DataFrame(texts)


if __name__ == "__main__":
    run_step(main)
