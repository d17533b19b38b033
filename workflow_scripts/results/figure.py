"""Draw one figure of an experiment, as the config declares it.

Needs   metrics.parquet (collect.py or published.py), the figure's declaration, and
        the points to lay under, if it declares any.
Makes   the figure in each format asked for, and beside the first the numbers in it, as CSV.

A kind of figure is a module of workflow_scripts/results/figures, or a Python file of your own, with
    draw(metrics: pandas.DataFrame, **options) -> matplotlib.figure.Figure
The declaration's other keys are its options, but for those that any kind has: `where`, `under` and
`caption`. What it draws should be kept in `figure.numbers`, a
DataFrame; without it, the CSV holds all metrics.
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
    """Draw the figure that ``spec`` declares to ``outputs``, and write its numbers.

    Args:
        metrics: The tidy table.
        spec: ``kind`` and the kind's options; of any kind, ``where`` says which runs to draw
            (a column to the values to keep), ``under`` names points to draw beneath (see
            ``read_points``), and ``caption`` is for the report only.
        outputs: Where to; the suffix chooses the format (.png, .pdf, .svg).

    Raises:
        StepError: No such kind, no such option, or the metrics cannot be drawn so.
    """
    options = {k: v for k, v in spec.items() if k not in ("kind", "where", "caption")}
    where = spec.get("where", {})
    metrics = chosen_runs(metrics, where)
    if "under" in options:
        under = read_points(options["under"])
        there = {column: values for column, values in where.items() if column in under.columns}
        options["under"] = chosen_runs(under, there)
    variants.check_options("figure", spec["kind"], options)
    draw_kind = variants.load("figure", spec["kind"])
    with style.paper():
        figure = draw_kind(metrics, **options)
        for output in outputs:
            style.save(figure, output)
    write_csv(outputs[0].with_suffix(".csv"), getattr(figure, "numbers", metrics))


def chosen_runs(metrics: pd.DataFrame, where: dict[str, Any]) -> pd.DataFrame:
    """Return the runs whose columns have the values of ``where``, with starts and baselines.

    Args:
        metrics: The tidy table.
        where: A column to one value or a list of values.

    Raises:
        StepError: There is no such column, or no run has such a value.
    """
    keep = pd.Series(True, index=metrics.index)
    for column, values in where.items():
        if column not in metrics.columns:
            raise StepError(f"'where' names {column!r}, which is no column of the metrics")
        wanted = values if isinstance(values, list) else [values]
        there = metrics[column].isin(wanted)
        if not there.any():
            has = ", ".join(map(str, metrics[column].dropna().unique()))
            raise StepError(f"'where' asks for {column} {values!r}, but the runs have {has}")
        keep &= there
    starts = metrics.loc[keep & (metrics["kind"] == "cleaning"), "start"]
    return metrics[keep | ((metrics["kind"] != "cleaning") & metrics["start"].isin(starts))]


def read_points(under: str | dict[str, Any]) -> pd.DataFrame:
    """Return the tidy table of points to draw beneath others.

    Args:
        under: Path of a tidy table (.parquet) or of published points (.json); or a mapping with
            that path as ``points`` and the options of ``published.read_published``.

    Raises:
        StepError: There is no such file, it cannot be read so, or a tidy table has options.
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
        raise StepError(f'--spec must name a kind, as in {{"kind": "scatter"}}, not {text}')
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
