"""Estimate the cost of the experiments of a config, and how much of it is already done.

Inputs  --config           the complete config as JSON, with its folder of results
        --experiment       name of one experiment (default: all experiments)
        --gpus, --cores    numbers of GPUs and cores available at the same time
Outputs OUTPUT/plan.csv    one row per experiment, two totals, and one row per rule of `all`; for a
                           single experiment, one row for it and one per rule
        OUTPUT/plan.md     the same tables as Markdown, which are also printed

A run shared by several experiments is counted in each of them, but only once in the totals.
GPU-hours sum over all GPUs of a job; core-hours are those of jobs without a GPU. Wall-clock hours
are those of the missing jobs on the given GPUs and cores.
"""

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.specs import CONFIG_HELP
from workflow_scripts.experiments.wall_clock import Machines, machines, wall_clock_hours
from workflow_scripts.experiments.workload import Job, Workload

Row = dict[str, Any]
EVERY = "every experiment"

_GIGABYTE = 1e9
# In the order of the workflow.
_RULES = (
    *("url_list", "download", "usable", "merge", "subset", "evaluation_set", "poison"),
    *("clean_split", "artefact", "filter_pairs", "captions"),
    *("pretraining", "cleaning", "measure"),
)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, write the plan and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help=CONFIG_HELP)
    parser.add_argument("--output", type=Path, required=True, help="folder of the two output files")
    parser.add_argument("--experiment", help="name of an experiment (default: every experiment)")
    parser.add_argument("--gpus", type=int, help="available GPUs (default: those of one job)")
    parser.add_argument("--cores", type=int, help="available cores (at least those of one job)")
    options = parser.parse_args(arguments)
    config = read_json(options.config)
    work = work_of(config)
    available = machines(config["resources"], options.gpus, options.cores)
    rows = plan_rows(config, work, available, options.experiment)
    with atomic(options.output / "plan.csv") as path, path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    targets = [options.experiment] if options.experiment else config["all"]
    text = _text(rows, targets, available, _speeds(work, targets))
    with atomic(options.output / "plan.md") as path:
        path.write_text(text)
    print(text)


def work_of(config: Row) -> Workload:
    """Return the workload of a checked config, given the state of its folder of results."""
    return Workload(config, expand(config), Path(config["pathvars"]["results"]))


def plan_rows(
    config: Row, work: Workload, available: Machines, experiment: str | None = None
) -> list[Row]:
    """Return the rows of ``plan.csv`` for all experiments or for one.

    ``by`` is ``experiment``, ``total`` or ``rule``; ``name`` is the experiment, ``all``, "every
    experiment", or the rule. ``jobs`` counts the jobs that are long or write much data, among them
    the ``pretraining`` and ``cleaning`` runs; ``gpu_hours``, ``core_hours`` and ``bytes`` are their
    costs. Each count also has a column ending in ``_done``, each cost one ending in ``_missing``.
    ``clock_hours_missing`` are the wall-clock hours of the missing jobs on the given machines.
    """

    def row(by: str, name: str, jobs: Iterable[Job]) -> Row:
        jobs = list(jobs)
        missing = [job for job in jobs if not job.done]
        clock = wall_clock_hours(missing, config["resources"], available)
        return {"by": by, "name": name, **_sums(jobs), "clock_hours_missing": round(clock, 6)}

    if experiment:
        of_rules = list(work.jobs([experiment]))
        rows = [row("experiment", experiment, of_rules)]
    else:
        of_rules = list(work.jobs(config["all"]))
        rows = [row("experiment", name, work.jobs([name])) for name in config["experiments"]]
        rows.append(row("total", "all", of_rules))
        rows.append(row("total", EVERY, work.jobs(config["experiments"])))
    return rows + [row("rule", rule, [j for j in of_rules if j.rule == rule]) for rule in _RULES]


def _sums(jobs: list[Job]) -> Row:
    counted = {
        "jobs": jobs,
        "pretraining": [job for job in jobs if job.rule == "pretraining"],
        "cleaning": [job for job in jobs if job.rule == "cleaning"],
    }
    row: Row = {}
    for name, some in counted.items():
        row |= {name: len(some), f"{name}_done": sum(job.done for job in some)}
    for name in ("gpu_hours", "core_hours", "bytes"):
        digits = 0 if name == "bytes" else 6
        row[name] = round(sum(getattr(job, name) for job in jobs), digits)
        row[f"{name}_missing"] = round(sum(getattr(j, name) for j in jobs if not j.done), digits)
    return row


def _speeds(work: Workload, experiments: list[str]) -> list[tuple[str, ...]]:
    """Return the speeds that training hours are based on: kind of run, speed and its origin."""
    kinds: dict[tuple[str, ...], None] = {}
    for run in {row["run"] for name in experiments for row in work.plan.experiments[name]}:
        spec = work.plan.runs[run]
        speed, measured = work.speed(run)
        terms = " + ".join(sorted(Path(term).stem for term in spec["objective"]))
        line = (spec["kind"], spec["model"]["name"], terms, _number(speed))
        kinds[*line, "measured" if measured else "config"] = None
    # Pre-training comes before cleaning.
    return sorted(kinds, key=lambda line: (line[0] != "pretraining", line))


def _text(
    rows: list[Row], targets: list[str], available: Machines, speeds: list[tuple[str, ...]]
) -> str:
    gpus = any(row["gpu_hours"] for row in rows)
    hours = ["gpu_hours", "core_hours"] if gpus else ["core_hours"]
    units = {"gpu_hours": "GPU-hours", "core_hours": "core-hours", "bytes": "GB"}
    costs = [head for name in (*hours, "bytes") for head in (units[name], "missing")]
    costs.append("hours")

    def cells(row: Row, counts: list[str]) -> list[str]:
        done = [f"{row[f'{name}_done']} of {row[name]}" for name in counts]
        sums = [row[key] for name in hours for key in (name, f"{name}_missing")]
        disk = [row["bytes"] / _GIGABYTE, row["bytes_missing"] / _GIGABYTE]
        return [row["name"], *done, *map(_number, [*sums, *disk, row["clock_hours_missing"]])]

    runs = ["pretraining", "cleaning"]
    experiments = [cells(row, runs) for row in rows if row["by"] != "rule"]
    rules = [cells(row, ["jobs"]) for row in rows if row["by"] == "rule"]
    device = "GPU" if gpus else "core"
    machine = (
        f"{available.gpus} GPUs and {available.cores} cores" if gpus else f"{available.cores} cores"
    )
    of = "the target `all`" if any(row["by"] == "total" for row in rows) else "the experiment"
    return "\n".join(
        [
            "Runs of each experiment: how many are done, their total cost, and the missing part.",
            "Runs shared by several experiments are counted in each of them, once in the totals.",
            f"The last column is the wall-clock time of the missing jobs on {machine}.\n",
            *_table(["experiment", "pre-trained", "cleaned", *costs], experiments),
            f"\nLong jobs of {of} ({', '.join(targets)}), by rule.\n",
            *_table(["rule", "done", *costs], rules),
            f"\nTraining speed assumed in these estimates: pairs per second of one {device}.\n",
            *_table(["kind", "model", "objective", "pairs/s", "from"], speeds, numbers=[3]),
            "",
        ]
    )


def _number(value: float) -> str:
    """Return a number with at least two significant digits."""
    if value < 0.001:
        return "<0.001" if value else "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _table(
    head: list[str], rows: Iterable[Iterable[str]], numbers: list[int] | None = None
) -> list[str]:
    """Return the lines of an aligned Markdown table; ``numbers`` are its right-aligned columns."""
    lines = [head, *map(list, rows)]
    right = set(range(1, len(head)) if numbers is None else numbers)
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(head))]
    rule = ["-" * (w - 1) + (":" if i in right else "-") for i, w in enumerate(widths)]
    lines.insert(1, rule)
    return [
        "| "
        + " | ".join(
            text.rjust(w) if i in right else text.ljust(w)
            for i, (text, w) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    ]


if __name__ == "__main__":
    run_step(main)
