"""The page's sections about the data and about where the numbers come from, as HTML."""

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.files import read_json
from workflow_scripts.results.index.board import hours_text
from workflow_scripts.results.index.runs import NO_ATTACK, Run
from workflow_scripts.results.leaks import COLUMNS
from workflow_scripts.results.page import paragraphs, picture, table
from workflow_scripts.results.table import read_csv

_MOST_SHEETS = 12


def data_section(
    runs: Sequence[Run], frame: pd.DataFrame, leaks: Sequence[Path], root: Path
) -> str:
    """Return contact sheets, survival of triggers, losses of lists, contamination and time."""
    parts = [
        _attacks(runs, frame, root),
        _losses(root),
        _contamination(leaks, frame),
        _time(frame, root),
    ]
    return "\n".join(part for part in parts if part)


def _attacks(runs: Sequence[Run], frame: pd.DataFrame, root: Path) -> str:
    sheets, survival = [], []
    for attack, folder in attack_folders(runs, frame, root)[:_MOST_SHEETS]:
        name = f"Attack {attack}, target {_target(folder)}"
        sheets.append(
            picture(
                folder / "contact_sheet.png",
                f"Pairs of images before and after the trigger of {attack}, with captions",
                caption=f"{name} ({folder.name})",
                width=560,
            )
        )
        for row in _rows(folder / "survival.csv"):
            changed = f"{row['images_that_differ']} of {row['images']}"
            survival.append([attack, row["compared"], changed, str(row["mean_difference"])])
    if not sheets:
        return ""
    heads = ["Attack", "Compared", "Images that differ", "Mean difference (of 255)"]
    return (
        "<h3>Triggers</h3>"
        f'<div class="sheets">{"".join(sheets)}</div>'
        "<h3>Does the trigger survive storing?</h3>" + table(heads, survival)
    )


def attack_folders(runs: Sequence[Run], frame: pd.DataFrame, root: Path) -> list[tuple[str, Path]]:
    """Return words and folder of each attack of the start models that has victims, each once.

    Attacks that differ in their seed only are shown once.
    """
    found: dict[str, Path] = {}
    for run, attack in zip(runs, frame["attack"], strict=True):
        folder = root / "attacks" / Path(run.spec["inputs"]["manifest"]).parent.name
        if attack != NO_ATTACK and (folder / "contact_sheet.png").is_file():
            found.setdefault(attack, folder)
    return list(found.items())


def _target(folder: Path) -> str:
    path = folder / "spec.json"
    return str(read_json(path).get("target", "of several parts")) if path.is_file() else "unknown"


def _losses(root: Path) -> str:
    parts = []
    for path in sorted(root.glob("sources/*/losses.csv")):
        rows = [[r["reason"], f"{int(r['rows']):,}", r["meaning"]] for r in _rows(path)]
        parts.append(table(["Rows of the URL list", "Number", "Meaning"], rows))
    return "<h3>What was lost between the list and the pairs</h3>" + "".join(parts) if parts else ""


def _contamination(leaks: Sequence[Path], frame: pd.DataFrame) -> str:
    if not leaks:
        return ""
    counts = pd.concat([read_csv(path, COLUMNS, ("start",)) for path in leaks]).drop_duplicates()
    label = frame.drop_duplicates("run").set_index("run")["start_label"]
    columns = [c for c in counts if c != "start"]
    grouped = counts.assign(start=counts["start"].map(label).fillna(counts["start"]))
    rows = [[str(row["start"]), *(f"{row[c]:,}" for c in columns)]
            for row in grouped.drop_duplicates().to_dict("records")]  # fmt: skip
    heads = ["Start model", "Cleaning pairs", "Originals of victims among them",
             "Poisoned pairs left in", "Evaluation images in the pre-training data"]  # fmt: skip
    note = "Images are compared byte for byte, so that each count is a lower bound."
    return "<h3>Contamination</h3>" + table(heads[: len(columns) + 1], rows) + paragraphs([note])


def _time(frame: pd.DataFrame, root: Path) -> str:
    runs = frame.drop_duplicates("run")
    spent = [
        (f"Cleaning: {name}" if name else "Pre-training", len(own), own["hours"].sum())
        for name, own in runs.groupby(runs["defence"].fillna(""), sort=False)
    ]
    for folder in sorted(path for path in root.glob("benchmarks/*") if path.is_dir()):
        if folder.name in ("pretraining", "cleaning"):
            continue
        seconds = [
            json.loads(path.read_text().splitlines()[-1])["s"] for path in folder.glob("**/*.jsonl")
        ]
        spent.append((f"Other jobs: {folder.name}", len(seconds), sum(seconds) / 3600))
    total = sum(hours for *_, hours in spent) or 1
    rows = [
        f'<tr><th scope="row">{html.escape(name)}</th><td>{n}</td><td>{hours_text(hours)}</td>'
        f'<td><span class="bar" style="width:{12 * hours / total:.2f}em"></span> '
        f"{100 * hours / total:.0f} %</td></tr>"
        for name, n, hours in sorted(spent, key=lambda row: -row[2])
    ]
    return (
        "<h3>Where the time went</h3><p>Trainings: hours of a device (GPU, or process on the CPU) "
        "of the runs on this page. Other jobs: hours on the clock, all of these results.</p>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Stage</th>'
        '<th scope="col">Jobs</th><th scope="col">Time</th><th scope="col">Share</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def provenance_section(
    texts: Iterable[str], shared: dict[str, Any], command: str, licences: str
) -> str:
    """Return which code made the runs, what they have in common, and how to make them again."""
    spec = html.escape("\n".join(f"{key}: {value}" for key, value in shared.items()))
    return (
        paragraphs(texts)
        + "<p>A click on a point, or on a run in the table, shows its specification, code digest, "
        "<code>run.json</code> and the command that makes it again. All tables and figures here: "
        f"<code>{html.escape(command)}</code></p>"
        "<details><summary>What all runs have in common (spec)</summary>"
        f"<pre>{spec}</pre></details>"
        "<details><summary>Licences of the libraries within this page</summary>"
        f"<pre>{html.escape(licences)}</pre></details>"
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return pd.read_csv(path).to_dict("records") if path.is_file() else []
