"""Summarize an experiment's findings, and list the files to open.

Inputs  <R>/experiments/<experiment>/metrics.parquet and best.csv
Prints  accuracy and ASR of each start model, best accuracy at a low ASR of each defence, files
"""

import argparse
from pathlib import Path

import pandas as pd

from workflow_scripts.common.errors import run_step
from workflow_scripts.results.selection import baseline_models, start_models
from workflow_scripts.results.table import read_csv, read_table

_BEST_COLUMNS = ("start", "defence", "asr_below", "accuracy", "asr", "learning_rate", "epoch")
_WORTH_OPENING = {
    "experiments/{experiment}/*.png": "figures, also as PDF",
    "experiments/{experiment}/best.csv": "the table above in full",
    "experiments/{experiment}/metrics.csv": "every epoch of every run",
    "sources/*/losses.csv": "rows of the URL list that were lost, by reason",
    "attacks/*/contact_sheet.png": "images before and after poisoning",
    "audits/*/index.html": "audits of a poisoned model and of its clean control",
    "report.html": "Snakemake's report: all files with their captions",
    "pages/all_experiments/index.html": "results page of all experiments",
    "index.html": "start here: answer, explorer, leaderboard, data, provenance",
}


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and print the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--experiment", default="main", help="name in the config (main)")
    parser.add_argument(
        "--asr-below", type=float, default=0.05, help="ASR threshold, a fraction (0.05)"
    )
    options = parser.parse_args(arguments)
    folder = options.results / "experiments" / options.experiment
    metrics = read_table(folder / "metrics.parquet")
    best = read_csv(folder / "best.csv", _BEST_COLUMNS, ("start", "defence", "run"))
    print(findings(metrics, best, options.asr_below))
    print("\nOpen:")
    print("\n".join(files(options.results, options.experiment)))


def findings(metrics: pd.DataFrame, best: pd.DataFrame, asr_below: float) -> str:
    """Return an aligned text table: each start model, then the best model of each defence.

    Args:
        metrics: The tidy table of the experiment.
        best: Its table of best models (``results/best.py``).
        asr_below: ASR threshold, a fraction.
    """
    line = "{:<40} {:>8} {:>8}  {}".format
    lines = [line("", "accuracy", "ASR", f"(best model with ASR below {asr_below:.0%})")]
    chosen = best[(best["asr_below"] - asr_below).abs() < 1e-9]
    controls = baseline_models(metrics).set_index("start")
    for start in start_models(metrics).itertuples():
        name = start.start_label or start.start
        lines.append(line(f"{name}, poisoned", _percent(start.top1), _percent(start.asr_top1), ""))
        if start.start in controls.index:
            control = controls.loc[start.start]
            lines.append(
                line(
                    "  clean control", _percent(control["top1"]), _percent(control["asr_top1"]), ""
                )
            )
        if start.asr_top1 < asr_below:
            lines.append(line("  attack not learned: nothing to remove", "", "", ""))
            continue
        for row in chosen[chosen["start"] == start.start].itertuples():
            found = not pd.isna(row.accuracy)
            which = f"learning rate {row.learning_rate:g}, epoch {row.epoch:.0f}" if found else ""
            lines.append(
                line(f"  cleaned with {row.defence}", _percent(row.accuracy), _percent(row.asr),
                     which or "no model qualifies")
            )  # fmt: skip
    return "\n".join(lines)


def files(results: Path, experiment: str) -> list[str]:
    """Return one line per existing file worth opening."""
    lines = []
    for pattern, what in _WORTH_OPENING.items():
        found = sorted(results.glob(pattern.format(experiment=experiment)))
        lines += [f"  {path}  ({what})" for path in found]
    return lines


def _percent(fraction: float) -> str:
    return "-" if pd.isna(fraction) else f"{fraction:.1%}"


if __name__ == "__main__":
    run_step(main)
