"""The runs behind an experiment's figures, and whether the code that made each is still the same.

Needs   runs.csv of the experiment, and run.json of each run in it.
Makes   <output>.html, the table of the runs, and <output>.rst, what captions say about their code.

A run is marked if a file that its numbers depend on is another now, or was not recorded. Results
of other code stay: whether they are to be made again is for people to decide.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.code import changed_since
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.results.page import table_page
from workflow_scripts.results.table import RUN_COLUMNS, read_csv, stem, varied_columns
from workflow_scripts.results.text import column_text, rst_text, value_text

_NOT_CLEANED = {"pretraining": "– (pre-training)", "baseline": "– (no poison)"}
_MOST = 4  # files that a sentence names


@dataclass(frozen=True)
class Code:
    """What is known of the code that made a run.

    ``changed`` are the files that are others now, None if the run did not record any;
    ``resumed`` says that the run went on from a checkpoint of other code.
    """

    record: Mapping[str, Any]
    changed: list[str] | None
    resumed: bool

    @property
    def marked(self) -> bool:
        """Whether the run is not all of the present code."""
        return self.changed != [] or self.resumed

    @property
    def commit(self) -> str:
        """Git's short commit, and whether the tree had changes that were not committed."""
        code = self.record["code"]
        commit = (code["commit"] or "unknown")[:7]
        return f"{commit} + changes" if code["dirty"] else commit

    @property
    def remark(self) -> str:
        """What is to be said of it, in a table."""
        if self.changed is None:
            return "not recorded"
        parts = [f"changed since: {_some(self.changed)}"] if self.changed else []
        parts += ["resumed from a checkpoint of other code"] if self.resumed else []
        return "; ".join(parts) or "the present"


def code_of(record: Mapping[str, Any]) -> Code:
    """Compare a run's code, as its ``run.json`` has it, with the present one."""
    code = record["code"]
    before = {r.get("code_before") for r in record["resumptions"]} - {None}
    return Code(record, changed_since(record), bool(before - {code.get("digest")}))


def sentences(codes: Sequence[Code]) -> list[str]:
    """Return what is to be said of the code of an experiment's runs, the worst first."""
    total, texts = len(codes), []
    marked = sum(code.marked for code in codes)
    if not marked:
        commits = ", ".join(dict.fromkeys(code.commit for code in codes))
        who = f"All {total} runs are" if total > 1 else "The run is"
        return [f"{who} of the present code (made at commit {commits})."]
    differing = _differing(codes)
    if differing:
        texts.append(
            f"The {total} runs are not of one code; what differs between them: {_some(differing)}."
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
            f"{len(old)} of {total} runs are of other code than the present (commit "
            f"{_commits(old)}): since then {_some(files)} changed."
        )
    resumed = sum(code.resumed for code in codes)
    if resumed:
        texts.append(f"{resumed} of {total} runs went on from a checkpoint of other code.")
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
    """Return the table as people read it, a line for each run, texts only."""
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
    """Write the table of an experiment's runs, and what is to be said of their code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="runs.csv of the experiment")
    parser.add_argument(
        "--root", type=Path, default=Path(), help="results that folders in runs.csv are relative to"
    )
    parser.add_argument("--output", type=Path, required=True, help="runs.html")
    options = parser.parse_args(arguments)
    # One model without poison may be the twin of several start models.
    runs = read_csv(options.runs, (*RUN_COLUMNS, "folder")).drop_duplicates("run")
    codes = [code_of(_record(options.root / folder)) for folder in runs["folder"]]
    lines, texts = readable(runs, codes), sentences(codes)
    marked = [code.marked for code in codes]
    output = stem(options.output)
    page = table_page(
        "Runs", list(lines.columns), lines.to_numpy().tolist(), marked=marked, above=texts
    )
    noted = [rst_text(text) for text in texts]
    noted = [f"**{text}** " if any(marked) else text for text in noted]
    for suffix, text in ((".html", page), (".rst", "\n".join(noted) + "\n")):
        with atomic(f"{output}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "run.json"
    if not path.is_file():
        raise StepError(f"{path} does not exist; do the run first")
    return read_json(path)


if __name__ == "__main__":
    run_step(main)
