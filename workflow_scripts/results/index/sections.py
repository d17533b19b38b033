"""The page's sections on data and provenance, as HTML."""

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.attacks import parts_of
from workflow_scripts.common.files import read_json
from workflow_scripts.common.html import element
from workflow_scripts.results.contamination import COLUMNS
from workflow_scripts.results.formatting import percent_text
from workflow_scripts.results.index.board import hours_text
from workflow_scripts.results.index.runs import NO_ATTACK, Run
from workflow_scripts.results.page import paragraphs, picture, table
from workflow_scripts.results.table import read_csv

_MOST_SHEETS = 12
_USABLE = "usable"
_JOBS = {
    "artefact": "artefacts (scores, patches, embeddings)",
    "measure": "measures of finished models",
    "poison": "poisoning",
    "url_list": "URL list",
}


def data_section(
    runs: Sequence[Run], frame: pd.DataFrame, leaks: Sequence[Path], root: Path
) -> str:
    """Return contact sheets, trigger survival, lost rows, contamination and compute time."""
    parts = [
        _attacks(runs, frame, root),
        _losses(root),
        _contamination(leaks, frame),
        _time(runs, frame, root),
    ]
    return "\n".join(part for part in parts if part)


def _attacks(runs: Sequence[Run], frame: pd.DataFrame, root: Path) -> str:
    sheets, survival = [], []
    for attack, folder in attack_folders(runs, frame, root)[:_MOST_SHEETS]:
        name = f"{attack[0].upper()}{attack[1:]}; target: {_target(folder)}"
        sheets.append(
            picture(
                folder / "contact_sheet.png",
                f"Images without and with the trigger of {attack}, with captions",
                caption=f"{name} ({folder.name})",
                width=560,
            )
        )
        for row in _rows(folder / "survival.csv"):
            changed = f"{row['images_that_differ']} of {row['images']}"
            survival.append([attack, row["compared"], changed, str(row["mean_difference"])])
    if not sheets:
        return ""
    heads = ["Attack", "Comparison", "Images that differ", "Mean difference (of 255)"]
    return (
        "<h3>Triggers</h3><p>Some victims of each attack: the original with its caption, and the "
        "image (framed) and caption (red) that the model was trained on.</p>"
        f'<div class="sheets">{"".join(sheets)}</div>'
        "<h3>Trigger survival in storage</h3><p>Triggered images are stored as PNG, which keeps "
        "every pixel; JPEG would change the trigger.</p>" + table(heads, survival)
    )


def attack_folders(runs: Sequence[Run], frame: pd.DataFrame, root: Path) -> list[tuple[str, Path]]:
    """Return the text and folder of each attack with victims, without duplicates.

    Attacks that differ only in their seed are listed once.
    """
    found: dict[str, Path] = {}
    for run, attack in zip(runs, frame["attack"], strict=True):
        folder = root / "attacks" / Path(run.spec["inputs"]["manifest"]).parent.name
        if attack != NO_ATTACK and (folder / "contact_sheet.png").is_file():
            found.setdefault(attack, folder)
    return list(found.items())


def _target(folder: Path) -> str:
    path = folder / "spec.json"
    if not path.is_file():
        return "unknown"
    return ", ".join(dict.fromkeys(str(part["target"]) for part in parts_of(read_json(path))))


def _losses(root: Path) -> str:
    parts = []
    for path in sorted(root.glob("sources/*/losses.csv")):
        counts = {row["reason"]: (int(row["rows"]), row["meaning"]) for row in _rows(path)}
        rows = [[reason, f"{n:,}", meaning] for reason, (n, meaning) in counts.items()]
        total = sum(n for n, _ in counts.values())
        lost = total - counts.get(_USABLE, (0, ""))[0]
        share = percent_text(lost / total) if total else "none"
        parts.append(paragraphs([f"{lost:,} of {total:,} rows ({share}) were lost."]))
        parts.append(table(["Rows of the URL list", "Number", "Meaning"], rows))
    return "<h3>Rows of the URL list that were lost</h3>" + "".join(parts) if parts else ""


_CONTAMINATION = {
    "pairs": "Cleaning pairs",
    "originals_of_victims": "Victims' originals among them",
    "poisoned_left": "Residual poisoned pairs",
    "duplicates": "Evaluation images in the pre-training data",
}


def _contamination(leaks: Sequence[Path], frame: pd.DataFrame) -> str:
    if not leaks:
        return ""
    counts = pd.concat([read_csv(path, COLUMNS, ("start",)) for path in leaks]).drop_duplicates()
    # The clean control of a start model has the start model's label.
    own = frame[frame["kind"] != "baseline"].drop_duplicates("start").set_index("start")
    columns = [column for column in _CONTAMINATION if column in counts]
    grouped = counts.assign(
        start=counts["start"].map(own["start_label"]).fillna(counts["start"]),
        attack=counts["start"].map(own["attack"]).fillna("–"),
    )
    rows = [
        [
            str(row["start"]),
            str(row["attack"]),
            *("–" if pd.isna(row[c]) else f"{int(row[c]):,}" for c in columns),
        ]
        for row in grouped.drop_duplicates().to_dict("records")
    ]
    heads = ["Start model", "Attack", *(_CONTAMINATION[c] for c in columns)]
    note = (
        "Overlap of data sets that should be disjoint: victims of the attack whose originals are "
        "cleaning pairs, poisoned pairs left in the cleaning data, and evaluation images that were "
        "trained on. Images are compared byte by byte, so each count is a lower bound."
    )
    return "<h3>Contamination</h3>" + paragraphs([note]) + table(heads, rows)


def _time(runs: Sequence[Run], frame: pd.DataFrame, root: Path) -> str:
    once = frame.drop_duplicates("run")
    spent = [
        (f"Cleaning: {name}" if name else "Pre-training", len(own), own["hours"].sum())
        for name, own in once.groupby(once["defence"].fillna(""), sort=False)
    ]
    for folder in sorted(path for path in root.glob("benchmarks/*") if path.is_dir()):
        if folder.name in ("pretraining", "cleaning"):
            continue
        files = [path.read_text().splitlines() for path in folder.glob("**/*.jsonl")]
        seconds = [json.loads(lines[-1])["s"] for lines in files if lines]
        name = _JOBS.get(folder.name, folder.name.replace("_", " "))
        spent.append((f"Other jobs: {name}", len(seconds), sum(seconds) / 3600))
    total = sum(hours for *_, hours in spent)
    devices = ", ".join(sorted({str(run.record["hardware"]["device"]) for run in runs}))
    rows = [
        element(
            "tr",
            element("th", name, scope="row"),
            element("td", n),
            element("td", hours_text(hours)),
            element(
                "td",
                element("span", class_="bar", style=f"width:{12 * share:.2f}em"),
                f" {100 * share:.0f} %",
            ),
        )
        for name, n, hours in sorted(spent, key=lambda row: -row[2])
        for share in [hours / (total or 1)]
    ]
    return (
        f"<h3>Compute time</h3><p>{hours_text(total)} in total. Pre-training and cleaning: "
        f"device-hours of the runs on this page (trained on: {html.escape(devices)}; on a CPU, an "
        "hour of one process). Other jobs: wall-clock hours of all jobs in this results folder.</p>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Stage</th>'
        '<th scope="col">Jobs</th><th scope="col">Time</th><th scope="col">Share</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def provenance_section(
    texts: Iterable[str], shared: dict[str, Any], command: str, licences: str
) -> str:
    """Return the code versions of the runs, their common spec and how to reproduce them."""
    spec = html.escape("\n".join(f"{key}: {value}" for key, value in shared.items()))
    return (
        paragraphs(texts)
        + "<p>Click a point, or a run in the table, to show its specification, code digest, "
        "<code>run.json</code> and the command that repeats it. To rebuild all tables and figures: "
        f"<code>{html.escape(command)}</code></p>"
        "<details><summary>Specification shared by all runs</summary>"
        f"<pre>{spec}</pre></details>"
        "<details><summary>Licences of the libraries embedded in this page</summary>"
        f"<pre>{html.escape(licences)}</pre></details>"
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    return pd.read_csv(path).to_dict("records") if path.is_file() else []
