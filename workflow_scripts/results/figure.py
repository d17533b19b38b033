"""Draw one figure of an experiment as declared in the config.

Inputs  metrics.parquet (collect.py or published.py), the figure's declaration, and the
        background points if it declares any.
Outputs the figure in each requested format, and next to the first its numbers as CSV.

A figure kind is a module of workflow_scripts/results/figures, or a Python file of your own, with
    draw(metrics: pandas.DataFrame, **options) -> matplotlib.figure.Figure
Its options are the keys of the declaration other than `kind`, `where` and `caption`; the path in
`under` is replaced by the table of its points. The plotted numbers should be assigned to
`figure.numbers`, a DataFrame; otherwise the CSV contains all metrics.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.results import style
from workflow_scripts.results.published import read_published
from workflow_scripts.results.table import read_table, write_csv


def draw(metrics: pd.DataFrame, spec: dict[str, Any], outputs: list[Path]) -> None:
    """Draw the figure declared by ``spec`` to ``outputs``, and write its numbers.

    Args:
        metrics: The tidy table.
        spec: ``kind`` and the kind's options. For every kind, ``where`` selects the runs (a
            column to the values to keep), ``under`` specifies background points (see
            ``read_points``), and ``caption`` is used by the report only.
        outputs: Output files; the suffix selects the format (.png, .pdf, .svg).

    Raises:
        StepError: The kind or an option is unknown, or the metrics cannot be drawn this way.
    """
    options = {k: v for k, v in spec.items() if k not in ("kind", "where", "caption")}
    where = spec.get("where", {})
    metrics = chosen_runs(metrics, where)
    if "under" in options:
        under = read_points(options["under"])
        known = {column: values for column, values in where.items() if column in under.columns}
        options["under"] = chosen_runs(under, known)
    variants.check_options("figure", spec["kind"], options)
    draw_kind = variants.load("figure", spec["kind"])
    with style.paper():
        figure = draw_kind(metrics, **options)
        for output in outputs:
            style.save(figure, output)
    numbers = getattr(figure, "numbers", metrics)
    if options.get("over") and "run" in numbers:
        numbers = numbers.assign(run="")  # a mean belongs to several runs
    write_csv(outputs[0].with_suffix(".csv"), numbers)


def chosen_runs(metrics: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """Return the runs that match ``where``, with their start models and clean controls.

    Args:
        metrics: The tidy table.
        where: Column to one value or a list of values.

    Raises:
        StepError: A column does not exist, or no run has a requested value.
    """
    keep = pd.Series(True, index=metrics.index)
    for column, values in where.items():
        if column not in metrics.columns:
            raise StepError(f"'where': the metrics have no column {column!r}")
        wanted = values if isinstance(values, list) else [values]
        matching = metrics[column].isin(wanted)
        if not matching.any():
            has = ", ".join(map(str, metrics[column].dropna().unique()))
            raise StepError(f"'where': no run has {column} {values!r} (available: {has})")
        keep &= matching
    starts = metrics.loc[keep & (metrics["kind"] == "cleaning"), "start"]
    return metrics[keep | ((metrics["kind"] != "cleaning") & metrics["start"].isin(starts))]


def read_points(under: str | dict[str, Any]) -> pd.DataFrame:
    """Return the tidy table of background points.

    Args:
        under: Path of a tidy table (.parquet) or of published points (.json); or a mapping with
            this path as ``points`` and options of ``published.read_published``.

    Raises:
        StepError: The file cannot be read, or options are given for a tidy table.
    """
    options = {"points": under} if isinstance(under, str) else dict(under)
    path = Path(options.pop("points"))
    if path.suffix == ".json":
        return read_published(path, **options)
    if options:
        raise StepError(
            f"'under' has options for published points ({', '.join(options)}), but {path} is a "
            "tidy table; remove them"
        )
    return read_table(path)


def _spec(text: str) -> dict[str, Any]:
    try:
        spec = json.loads(text)
    except json.JSONDecodeError as error:
        raise StepError(f"--spec is not JSON ({error}): {text}") from error
    if not isinstance(spec, dict) or "kind" not in spec:
        raise StepError(f'--spec must have a kind, e.g. {{"kind": "scatter"}}, got {text}')
    return spec


def main(arguments: list[str] | None = None) -> None:
    """Draw one figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metrics", type=Path, required=True, help="metrics.parquet")
    parser.add_argument("--spec", required=True, help='JSON, e.g. {"kind": "scatter"}')
    parser.add_argument("--output", type=Path, nargs="+", required=True, help=".png .pdf .svg")
    options = parser.parse_args(arguments)
    draw(read_table(options.metrics), _spec(options.spec), options.output)


if __name__ == "__main__":
    run_step(main)
