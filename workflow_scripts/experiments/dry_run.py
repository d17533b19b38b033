"""The summary of a dry run: jobs by rule, names of runs to train, and jobs that are repeated."""

import logging
import os.path
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from snakemake.logging import logger
from snakemake.settings.types import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from workflow_scripts.common.columns import KNOWLEDGE_COLUMN, RUN_COLUMNS, SWEEP_COLUMN
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.finished import finished_with_another_evaluation

Spec = dict[str, Any]

# Columns of run tables that are not keys of the config.
_COLUMNS = {*RUN_COLUMNS, "folder", SWEEP_COLUMN, KNOWLEDGE_COLUMN}
# The rules that train, by the name of their runs in messages.
_TRAINING = {
    "pre-trainings": ("pretraining", "pretraining_taken"),
    "cleaning runs": ("cleaning",),
}


def shorten_dry_run(workflow: Any, config: Spec, plan: Plan) -> None:
    """Make a dry run print a summary instead of every job; with ``-p``, it prints all jobs.

    Args:
        workflow: Snakemake's workflow object.
        config: The checked config.
        plan: Its expanded experiments.
    """
    settings = workflow.output_settings
    if settings.dryrun and not settings.quiet and not settings.printshellcmds:
        # Snakemake then stops after its table of jobs, whose log record triggers this handler.
        settings.quiet = {Quietness.RULES, Quietness.PROGRESS}
        logger.addHandler(_AfterJobStats(lambda: summary(workflow.dag, config, plan)))


class _AfterJobStats(logging.Handler):
    """Logs a text after Snakemake's table of jobs."""

    def __init__(self, text: Callable[[], str]):
        super().__init__()
        self.text = text

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) == LogEvent.RUN_INFO:
            logger.info(self.text())


def summary(dag: Any, config: Spec, plan: Plan) -> str:
    """Return which runs Snakemake's DAG would train, and which finished jobs it would repeat."""
    needed = list(dag.needrun_jobs())
    asked = {getattr(job.wildcards, "experiment", None) for job in dag.jobs}
    tables = [table for name, table in plan.experiments.items() if name in asked]
    rows = {row["run"]: row for table in tables for row in table}
    lines = []
    for word, rules in _TRAINING.items():
        runs = [job.wildcards.id for job in needed if job.rule.name in rules]
        of_kind = sum(job.rule.name in rules for job in dag.jobs)
        if of_kind:
            named = word if len(runs) != 1 else word.removesuffix("s")
            lines.append(f"{len(runs)} {named} to train, {of_kind - len(runs)} already finished")
            lines += [f"    {line}" for line in _named(runs, rows)]
    again = Counter(
        (job.rule.name, "; ".join(dag.reason(job).get_names()))
        for job in needed
        if job.output and not dag.reason(job).missing_output
    )
    if again:
        lines.append("Finished jobs that would be repeated:")
        lines += [f"    {n} {rule}: {reason}" for (rule, reason), n in sorted(again.items())]
    pretrained = [job.wildcards.id for job in needed if job.rule.name in _TRAINING["pre-trainings"]]
    lines += finished_with_another_evaluation(config, plan, pretrained)
    lines.append("This was a dry run (-n). To list every job with its command, add -p.")
    return "\n".join(lines)


def _named(runs: Iterable[str], rows: dict[str, Spec]) -> list[str]:
    """Return one line for each group of runs that differ only in their learning rate."""
    groups: dict[str, list[str]] = {}
    place = {run: number for number, run in enumerate(rows)}
    for run in sorted(runs, key=lambda run: place.get(run, len(place))):
        groups.setdefault(_description(rows.get(run)), []).append(run)
    lines = []
    for description, alike in groups.items():
        if len(alike) == 1:
            lines.append(f"{alike[0]}: {description}")
            continue
        rates = {rows[run]["learning_rate"] for run in alike if run in rows} - {None}
        differ = len(rates) == len(alike)
        varied = f", learning rates {', '.join(f'{r:g}' for r in sorted(rates))}" if differ else ""
        # These are names, not paths.
        prefix = os.path.commonprefix(alike)  # noqa: RUF071
        lines.append(f"{prefix}* ({len(alike)} runs{varied}): {description}")
    return lines


def _description(row: Spec | None) -> str:
    """Return the settings of a run other than its learning rate, from its row in a run table."""
    if row is None:
        return "needed by another run"
    kind = "without poison" if row["kind"] == "baseline" else row["defence"]
    varied = {key: value for key, value in row.items() if key not in _COLUMNS}
    # `variant` names a combination of the other varied values.
    named = [varied["variant"]] if "variant" in varied else [f"{k} {v}" for k, v in varied.items()]
    return "; ".join(filter(None, [row["start_label"], kind, *named]))
