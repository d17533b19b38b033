"""Say what the experiments of a config cost, and how much of it is done already.

Needs   --config           the whole config as JSON, with its folder of results
        --experiment       one of the experiments; without it, all of them
        --gpus, --cores    that can be used at the same time
Makes   OUTPUT/plan.csv    a row for each experiment, for two totals, and for each rule of `all`;
                           for one experiment, a row for it and for each of its rules
        OUTPUT/plan.md     the same for people, which is printed as well

A run that several experiments share is counted in each of them, and once in a total. GPU-hours are
those of all GPUs of a job together, core-hours those of jobs without a GPU. Hours on the clock are
those of what is missing, on the given GPUs and cores.
"""

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from workflow_scripts.common.errors import run_step
from workflow_scripts.common.files import atomic, read_json
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.wall_clock import Machines, machines, wall_clock_hours
from workflow_scripts.experiments.work import Job, Work

Row = dict[str, Any]
EVERY = "every experiment"

_GIGABYTE = 1e9
# In the order of the workflow.
_RULES = (
    *("url_list", "download", "usable", "merge", "subset", "evaluation_set", "poison"),
    *("clean_split", "artefact", "filter_pairs", "captions"),
    *("pretraining", "pseudo_labels", "cleaning", "measure"),
)


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, write the plan and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True, help="the whole config (JSON)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the two files")
    parser.add_argument("--experiment", help="of the config (default: all of them)")
    parser.add_argument("--gpus", type=int, help="at hand (default: as many as a job asks for)")
    parser.add_argument("--cores", type=int, help="at hand (at least as many as a job asks for)")
    options = parser.parse_args(arguments)
    config = read_json(options.config)
    work = work_of(config)
    there = machines(config["resources"], options.gpus, options.cores)
    rows = plan_rows(config, work, there, options.experiment)
    with atomic(options.output / "plan.csv") as path, path.open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    targets = [options.experiment] if options.experiment else config["all"]
    text = _text(rows, targets, there, _speeds(work, targets))
    with atomic(options.output / "plan.md") as path:
        path.write_text(text)
    print(text)


def work_of(config: Row) -> Work:
    """Return the jobs of a checked config, as far as its folder of results has them."""
    return Work(config, expand(config), Path(config["pathvars"]["results"]))


def plan_rows(config: Row, work: Work, there: Machines, experiment: str | None = None) -> list[Row]:
    """Return the rows of ``plan.csv``, of all experiments or of one.

    ``by`` is ``experiment``, ``total`` or ``rule``; ``name`` the experiment, ``all``, "every
    experiment", or the rule. ``jobs`` counts what takes long or makes much, of which
    ``pretraining`` and ``cleaning`` are the runs. Hours are those of GPUs and of cores; each column
    has one that ends in ``_done`` (counts) or ``_missing`` (costs). ``clock_hours_missing`` are
    the hours on the clock that what is missing takes on the machines that are there.
    """

    def row(by: str, name: str, jobs: Iterable[Job]) -> Row:
        jobs = list(jobs)
        missing = [job for job in jobs if not job.done]
        clock = wall_clock_hours(missing, config["resources"], there)
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


def _speeds(work: Work, experiments: list[str]) -> list[tuple[str, ...]]:
    """Return what the training hours follow from: kinds of runs, their speed, where it is from."""
    kinds: dict[tuple[str, ...], None] = {}
    for run in {row["run"] for name in experiments for row in work.plan.experiments[name]}:
        spec = work.plan.runs[run]
        speed, measured = work.speed(run)
        terms = " + ".join(sorted(Path(term).stem for term in spec["objective"]))
        line = (spec["kind"], spec["model"]["name"], terms, _number(speed))
        kinds[*line, "measured" if measured else "config"] = None
    # Pre-training is the first of the two.
    return sorted(kinds, key=lambda line: (line[0] != "pretraining", line))


def _text(
    rows: list[Row], targets: list[str], there: Machines, speeds: list[tuple[str, ...]]
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
    machine = f"{there.gpus} GPUs and {there.cores} cores" if gpus else f"{there.cores} cores"
    of = "the target `all`" if any(row["by"] == "total" for row in rows) else "the experiment"
    return "\n".join(
        [
            "Runs of each experiment: how many are done, what all of them cost, what is missing.",
            "Runs that experiments share are counted in each of them, and once in the totals.",
            f"The last column is what is missing in hours on the clock, on {machine}.\n",
            *_table(["experiment", "pre-trained", "cleaned", *costs], experiments),
            f"\nLong jobs of {of} ({', '.join(targets)}), by rule.\n",
            *_table(["rule", "done", *costs], rules),
            f"\nSpeed of training that the hours follow from: pairs per second of a {device}.\n",
            *_table(["kind", "model", "objective", "pairs/s", "from"], speeds, numbers=[3]),
            "",
        ]
    )


def _number(value: float) -> str:
    """Return a number with two digits or more that count; nothing is 0."""
    if value < 0.001:
        return "<0.001" if value else "0"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _table(
    head: list[str], rows: Iterable[Iterable[str]], numbers: list[int] | None = None
) -> list[str]:
    """Return a Markdown table, aligned; ``numbers`` are its right-aligned columns."""
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
