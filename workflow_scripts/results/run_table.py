"""The runs behind an experiment's figures, and whether their code has changed since.

Inputs  runs.csv of the experiment, and run.json of each run in it.
Outputs <output>.html, the table of the runs, and <output>.rst, a note on their code for captions.

A run is flagged if a file that its numbers depend on has changed since or was not recorded.
Flagged results are kept; whether to repeat them is the user's decision.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.code_version import changed_since
from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.results.formatting import column_text, rst_text, value_text
from workflow_scripts.results.page import table_page
from workflow_scripts.results.table import RUN_COLUMNS, read_csv, stem, varied_columns

_NOT_CLEANED = {"pretraining": "– (pre-training)", "baseline": "– (no poison)"}
_MOST = 4  # files listed in a sentence


@dataclass(frozen=True)
class Code:
    """Provenance of a run's code.

    ``changed`` lists the files that have changed since, or is None if the run recorded none;
    ``resumed`` is true if the run resumed from a checkpoint of another code version.
    """

    record: Mapping[str, Any]
    changed: list[str] | None
    resumed: bool

    @property
    def flagged(self) -> bool:
        """Whether any part of the run was made by another code version."""
        return self.changed != [] or self.resumed

    @property
    def commit(self) -> str:
        """Short Git commit, and whether the working tree had uncommitted changes."""
        code = self.record["code"]
        commit = (code["commit"] or "unknown")[:7]
        return f"{commit} + changes" if code["dirty"] else commit

    @property
    def remark(self) -> str:
        """The text of the table's column ``Code``."""
        if self.changed is None:
            return "not recorded"
        parts = [f"changed since: {_some(self.changed)}"] if self.changed else []
        parts += ["resumed from a checkpoint of another version"] if self.resumed else []
        return "; ".join(parts) or "current"


def code_of(record: Mapping[str, Any]) -> Code:
    """Compare the code recorded in a run's ``run.json`` with the current code."""
    code = record["code"]
    before = {r.get("code_before") for r in record["resumptions"]} - {None}
    return Code(record, changed_since(record), bool(before - {code.get("digest")}))


def sentences(codes: Sequence[Code]) -> list[str]:
    """Return sentences about the code of an experiment's runs, the most serious first."""
    total, texts = len(codes), []
    marked = sum(code.flagged for code in codes)
    if not marked:
        commits = ", ".join(dict.fromkeys(code.commit for code in codes))
        who = f"All {total} runs were" if total > 1 else "The run was"
        return [f"{who} made by the current code (commit {commits})."]
    differing = _differing(codes)
    if differing:
        texts.append(
            f"The {total} runs were made by different code versions; files that differ: "
            f"{_some(differing)}."
        )
    unknown = sum(code.changed is None for code in codes)
    if unknown:
        texts.append(
            f"{unknown} of {total} runs did not record the code that made them "
            f"(commit {_commits(c for c in codes if c.changed is None)})."
        )
    old = [code for code in codes if code.changed]
    if old:
        files = sorted({name for code in old for name in code.changed or ()})
        texts.append(
            f"{len(old)} of {total} runs were made by an older version of the code (commit "
            f"{_commits(old)}); changed since: {_some(files)}."
        )
    resumed = sum(code.resumed for code in codes)
    if resumed:
        texts.append(f"{resumed} of {total} runs resumed from a checkpoint of another version.")
    return texts


def _commits(codes: Any) -> str:
    return ", ".join(dict.fromkeys(code.commit for code in codes))


def _some(files: Sequence[str]) -> str:
    more = len(files) - _MOST
    return ", ".join(files[:_MOST]) + (f" and {more} more" if more > 0 else "")


def _differing(codes: Sequence[Code]) -> list[str]:
    seen: dict[str, set[str]] = {}
    for code in codes:
        for name, text in code.record["code"].get("files", {}).items():
            seen.setdefault(name, set()).add(text)
    return sorted(name for name, texts in seen.items() if len(texts) > 1)


def readable(runs: pd.DataFrame, codes: Sequence[Code]) -> pd.DataFrame:
    """Return the table formatted as text, with one row per run."""
    varied = [c for c in varied_columns(runs) if c != "folder"]
    lines = []
    for row, code in zip(runs.to_dict("records"), codes, strict=True):
        record = code.record
        named = {column_text(c): value_text(row[c]) for c in ("learning_rate", *varied)}
        lines.append(
            {
                "Run": row["run"],
                "Code": code.remark,
                "Commit": code.commit,
                "Start model": row["start_label"],
                "Cleaned by": row["defence"] or _NOT_CLEANED[row["kind"]],
                **named,
                "Finished (UTC)": record["finished"][:16].replace("T", " "),
                "Wall time": str(timedelta(seconds=round(record["wall_seconds"]))),
                "Device": record["hardware"]["device"],
                "Processes": str(record["hardware"]["processes"]),
                "Resumed": f"{len(record['resumptions'])} ×" if record["resumptions"] else "no",
            }
        )
    return pd.DataFrame(lines)


def main(arguments: list[str] | None = None) -> None:
    """Write the table of an experiment's runs and the note on their code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="runs.csv of the experiment")
    parser.add_argument(
        "--root", type=Path, default=Path(), help="results; folders in runs.csv are relative to it"
    )
    parser.add_argument("--output", type=Path, required=True, help="runs.html")
    options = parser.parse_args(arguments)
    # A clean control may belong to several start models.
    runs = read_csv(options.runs, (*RUN_COLUMNS, "folder")).drop_duplicates("run")
    codes = [code_of(read_record(options.root / folder)) for folder in runs["folder"]]
    lines, texts = readable(runs, codes), sentences(codes)
    marked = [code.flagged for code in codes]
    output = stem(options.output)
    page = table_page(
        "Runs", list(lines.columns), lines.to_numpy().tolist(), marked=marked, above=texts
    )
    noted = [rst_text(text) for text in texts]
    noted = [f"**{text}** " if any(marked) else text for text in noted]
    for suffix, text in ((".html", page), (".rst", "\n".join(noted) + "\n")):
        with atomic(f"{output}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the run.json of a run.

    Raises:
        StepError: It does not exist.
    """
    return read_json(folder / "run.json", missing="finish the run first")


if __name__ == "__main__":
    run_step(main)
