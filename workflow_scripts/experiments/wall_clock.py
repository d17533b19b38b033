"""Estimates the wall-clock time of jobs on given numbers of GPUs and cores."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workflow_scripts.experiments.workload import Job

Spec = dict[str, Any]


@dataclass(frozen=True)
class Machines:
    """Numbers of GPUs and cores that jobs can use at the same time."""

    gpus: int
    cores: int


def available_machines(workflow: Any) -> dict[str, int | None]:
    """Return the values of ``--resources gpu=N`` and ``--cores``; None if not given.

    Args:
        workflow: Snakemake's workflow object.
    """
    values = {name: resource.value for name, resource in workflow.global_resources.items()}
    return {"gpus": values.get("gpu"), "cores": values["_cores"]}


def machines(resources: Spec, gpus: int | None, cores: int | None) -> Machines:
    """Return the available GPUs and cores; by default, those that the largest rule requests.

    The number of cores is raised to that of the largest rule. The number of GPUs is not, because a
    training adapts to the available GPUs.

    Args:
        resources: Section ``resources`` of the config.
        gpus: Number of GPUs; None if not given.
        cores: Number of cores; None if not given.
    """
    largest_gpus = max(_gpus(needs) for needs in resources.values())
    largest_cores = max(needs["threads"] for needs in resources.values())
    return Machines(largest_gpus if gpus is None else gpus, max(largest_cores, cores or 0))


def wall_clock_hours(jobs: Iterable[Job], resources: Spec, available: Machines) -> float:
    """Return the hours until all jobs are done, excluding queueing time.

    Rules run one after the other, and the jobs of a rule in parallel.
    """
    durations: dict[str, list[float]] = {}
    for job in jobs:
        hours = _hours(job, resources.get(job.rule), available)
        durations.setdefault(job.rule, []).append(hours)
    return sum(
        _until_done(hours, _at_once(resources.get(rule), available))
        for rule, hours in durations.items()
    )


def _hours(job: Job, needs: Spec | None, available: Machines) -> float:
    if needs is None:
        return 0.0
    gpus = min(_gpus(needs), available.gpus)
    return job.gpu_hours / max(1, gpus) + job.core_hours / needs["threads"]


def _at_once(needs: Spec | None, available: Machines) -> int:
    if needs is None:
        return 1
    if _gpus(needs):
        return max(1, available.gpus // _gpus(needs))
    return max(1, available.cores // needs["threads"])


def _gpus(needs: Spec) -> int:
    return needs.get("gpu", 0) * needs.get("nodes", 1)


def _until_done(hours: list[float], at_once: int) -> float:
    """Return the makespan of jobs on ``at_once`` slots, scheduled longest first."""
    places = [0.0] * min(at_once, len(hours))
    for duration in sorted(hours, reverse=True):
        heapq.heapreplace(places, places[0] + duration)
    return max(places)
