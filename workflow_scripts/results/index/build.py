"""Build the results page of a set of experiments: one HTML file that works offline.

Inputs  <R>/experiments/<experiment>/runs.csv and metrics.parquet of each experiment; leaks.csv,
        artefacts.csv and measures.csv if they exist; run.json of each run; contact sheets,
        losses.csv
Outputs OUTPUT         the page
"""

import argparse
import os
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common.columns import KNOWLEDGE_COLUMN, SWEEP_COLUMN
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic
from workflow_scripts.common.html import document, element, joined, json_element
from workflow_scripts.results.artefacts import varied_by_starts
from workflow_scripts.results.collect import combine
from workflow_scripts.results.index import board, controls, data, sections
from workflow_scripts.results.index.answer import answer, uncertain
from workflow_scripts.results.index.attacks import attack_section
from workflow_scripts.results.index.figure import main_figure
from workflow_scripts.results.index.leaderboard import leaderboard
from workflow_scripts.results.index.runs import Run, read_runs, runs_frame
from workflow_scripts.results.page import paragraphs
from workflow_scripts.results.run_table import sentences
from workflow_scripts.results.selection import cleaned_models, start_models
from workflow_scripts.results.table import RUN_COLUMNS, read_csv, read_table

ASSETS = Path(__file__).parent / "assets"
_LIBRARIES = ("vega.min.js", "vega-lite.min.js", "tabulator.min.js")
_QUESTION = (
    "Does fine-tuning on clean data remove a backdoor from a CLIP model, and how does that depend "
    "on the pre-training objective?"
)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--experiments", type=Path, nargs="+", required=True, metavar="METRICS_PARQUET"
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the results")
    parser.add_argument("--command", default="snakemake", help="shown command to repeat a run")
    parser.add_argument("--output", type=Path, required=True, help="index.html")
    options = parser.parse_args(arguments)
    folders = {path.parent.name: path.parent for path in options.experiments}
    text = page(folders, options.root, options.command, options.output)
    with atomic(options.output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{options.output}: {len(text) / 1e6:.2f} MB")


def page(folders: dict[str, Path], root: Path, command: str, output: Path) -> str:
    """Return the page as HTML.

    Args:
        folders: Name of each experiment to its results folder.
        root: The results; the folders of runs are relative to it.
        command: Command that builds a file whose name is appended.
        output: Path of the page; outside of ``root`` it has no links to files.

    Raises:
        StepError: Results are missing.
    """
    name = Path(os.path.relpath(output, root)).as_posix()
    up = "../" * name.count("/")
    metrics = combine({name: read_table(f / "metrics.parquet") for name, f in folders.items()})
    tables = [read_csv(f / "runs.csv", (*RUN_COLUMNS, "folder")) for f in folders.values()]
    # A clean control may be a start model in another experiment; it is listed once.
    columns = [*RUN_COLUMNS, SWEEP_COLUMN, KNOWLEDGE_COLUMN, "folder"]
    listed = pd.concat(tables).reindex(columns=columns)
    # A setting may be a trial in one experiment and varied by another.
    listed[SWEEP_COLUMN] = listed.groupby("run")[SWEEP_COLUMN].transform("first")
    runs = read_runs(listed.drop_duplicates("run"), root)
    if not runs:
        raise StepError("the experiments have no runs; check their declarations in the config")
    frame = runs_frame(runs, root)
    seen = metrics.groupby("run")["samples_seen"].max()
    frame = frame.assign(passes=frame["passes"] * frame["run"].map(seen).astype(float))
    models = _models(metrics, frame)
    starts = start_models(metrics)
    starts = starts.drop_duplicates("start").set_index("start")
    rows = board.by_budget(leaderboard(models, starts)) if len(models) else []
    places = {run: n for n, run in enumerate(frame["run"])}
    # A page outside of the results folder cannot link to files in it.
    outside = name.startswith("..")
    place, up = ("", "") if outside else (f"{root.resolve().name}/{name}", up)
    explorer = _explorer_data(metrics, runs, frame, _end_scores(folders))
    explorer |= {"command": command, "root": str(root), "up": up, "place": place}
    shown = board.compared_rows(rows)
    boards = {"columns": board.board_columns(), "rows": board.board_rows(rows, places)}
    detectors = _detectors(folders)
    figures = [main_figure(shown, number, explorer["looks"]) for number in ("ASR", "Accuracy")]
    leaks = [f / "leaks.csv" for f in folders.values() if (f / "leaks.csv").is_file()]
    images = int(metrics["images"].max()) if metrics["images"].notna().any() else 0
    limits = [*uncertain(shown, images), *board.sweep_sentences(rows)]
    embedded = {"all": explorer, "board": boards, "figure": figures, "detectors": detectors}
    elements = "\n".join(json_element(f"{name}-data", value) for name, value in embedded.items())
    body = _fill(
        question=paragraphs([_QUESTION]),
        answer=paragraphs(answer(shown)),
        scale=paragraphs([_scale(runs, frame, images)]),
        uncertain=joined(element("li", text) for text in limits),
        figure_note=paragraphs([f"Budget: {board.budget_text(shown[0])}." if shown else ""]),
        data=sections.data_section(runs, frame, leaks, root),
        provenance=sections.provenance_section(
            sentences([run.code for run in runs]),
            explorer["runs"]["shared"],
            f"{command} all",
            (ASSETS / "LICENSES.md").read_text(),
        ),
        attacks=attack_section(models, starts) if len(models) else "",
        detectors="" if detectors["rows"] else "hidden",
        experiments=", ".join(folders),
        view=controls.view_controls(explorer["measures"]),
        filters=controls.filter_controls(explorer["runs"]["coded"]),
        json=elements,
    )
    style = (ASSETS / "tabulator_simple.min.css").read_text() + (ASSETS / "index.css").read_text()
    libraries = [
        (ASSETS / name).read_text().partition("//# sourceMapping")[0] for name in _LIBRARIES
    ]
    scripts = [*libraries, (ASSETS / "explorer.js").read_text()]
    subject = ", ".join(folders) if len(folders) < 5 else f"{len(folders)} experiments"
    return document(f"Results: {subject}", body, style=style, scripts=scripts)


def _models(metrics: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cleaned models with columns of ``frame`` for their runs."""
    by_run = frame[frame["kind"] == "cleaning"].set_index("run")
    names = ["setting", "trial", "start_label", "dataset", "epochs", "pairs", "attack", "seed",
             "start_seed", "split", "hours", "passes", KNOWLEDGE_COLUMN]  # fmt: skip
    cleaned = cleaned_models(metrics)
    cleaned = cleaned[cleaned["run"].isin(by_run.index)]
    return cleaned.drop(columns=[n for n in names if n in cleaned]).join(by_run[names], on="run")


def _explorer_data(
    metrics: pd.DataFrame, runs: list[Run], frame: pd.DataFrame, scores: pd.DataFrame
) -> dict[str, Any]:
    details = data.runs_of(runs, frame, metrics)
    measures, ends, counts = data.end_measures(scores, frame)
    details["columns"] |= counts
    epochs = data.epochs_of(metrics, frame, data.measures_of(metrics))
    models = {run.row["run"]: run.record.get("epoch") for run in runs}
    epochs |= data.at_models(ends, metrics, frame, models)
    measures = [*data.measures_of(metrics), *measures]
    return {
        "runs": details,
        "epochs": epochs,
        "measures": measures,
        "dimensions": data.DIMENSIONS,
        "looks": data.level_styles(details["coded"]["defence"]["levels"]),
        "not_cleaned": data.NOT_CLEANED,
        "style": controls.STYLE,
    }


def _end_scores(folders: dict[str, Path]) -> pd.DataFrame:
    """Return the measures of finished models: ``run``, ``measure``, ``name``, ``value``, ``of``."""
    keys = ("run", "measure", "name")
    paths = [f / "measures.csv" for f in folders.values() if (f / "measures.csv").is_file()]
    tables = [read_csv(path, (*keys, "value", "of"), keys) for path in paths]
    empty = pd.DataFrame(columns=[*keys, "value", "of"])
    return pd.concat(tables).drop_duplicates([*keys]) if tables else empty


def _detectors(folders: dict[str, Path]) -> dict[str, Any]:
    paths = [f / "artefacts.csv" for f in folders.values() if (f / "artefacts.csv").is_file()]
    texts = ("artefact", "id", "start", "start_label")
    tables = [read_csv(path, texts, texts) for path in paths]
    reports = pd.concat(tables).drop_duplicates(["id", "start"]) if tables else pd.DataFrame()
    return board.detector_board(reports, set().union(*map(varied_by_starts, tables)))


def _scale(runs: list[Run], frame: pd.DataFrame, images: int) -> str:
    models = ", ".join(dict.fromkeys(str(run.spec["model"]["name"]) for run in runs))
    sizes = {
        run.spec["attack"]["image_size"]
        for run in runs
        if (run.spec["attack"] or {}).get("image_size")
    }
    pixels = f", {', '.join(str(size) for size in sorted(sizes))} px" if sizes else ""
    kinds = frame["kind"].value_counts()
    return (
        f"Scale: architectures {models}{pixels}; {kinds.get('pretraining', 0):,} start models, "
        f"{kinds.get('cleaning', 0):,} cleaning runs, {images:,} evaluation images, "
        f"{frame['hours'].sum():,.1f} device-hours of training."
    )


def _fill(**parts: str) -> str:
    text = (ASSETS / "index.html").read_text()
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


if __name__ == "__main__":
    run_step(main)
