"""How long jobs take on a number of GPUs and cores, as hours on the clock."""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from workflow_scripts.experiments.work import Job

Spec = dict[str, Any]


@dataclass(frozen=True)
class Machines:
    """GPUs and cores that jobs can have at the same time."""

    gpus: int
    cores: int


def machines_at_hand(workflow: Any) -> dict[str, int | None]:
    """Return what ``--resources gpu=N`` and ``--cores`` say; None if they say nothing.

    Args:
        workflow: Snakemake's.
    """
    given = {name: resource.value for name, resource in workflow.global_resources.items()}
    return {"gpus": given.get("gpu"), "cores": given["_cores"]}


def machines(resources: Spec, gpus: int | None, cores: int | None) -> Machines:
    """Return what there is: the given numbers, and at least what the largest rule asks for.

    Fewer GPUs than that are taken as they are given, because a training uses those that there are.

    Args:
        resources: Of the config.
        gpus: None if nobody said.
        cores: None if nobody said.
    """
    largest_gpus = max(_gpus(needs) for needs in resources.values())
    largest_cores = max(needs["threads"] for needs in resources.values())
    return Machines(largest_gpus if gpus is None else gpus, max(largest_cores, cores or 0))


def wall_clock_hours(jobs: Iterable[Job], resources: Spec, there: Machines) -> float:
    """Return the hours until jobs are done: rule after rule, and the jobs of a rule side by side.

    The time that jobs wait for machines of others is not known and not in it.
    """
    durations: dict[str, list[float]] = {}
    for job in jobs:
        hours = _hours(job, resources.get(job.rule), there)
        durations.setdefault(job.rule, []).append(hours)
    return sum(
        _until_done(hours, _at_once(resources.get(rule), there))
        for rule, hours in durations.items()
    )


def _hours(job: Job, needs: Spec | None, there: Machines) -> float:
    if needs is None:
        return 0.0
    gpus = min(_gpus(needs), there.gpus)
    return job.gpu_hours / max(1, gpus) + job.core_hours / needs["threads"]


def _at_once(needs: Spec | None, there: Machines) -> int:
    if needs is None:
        return 1
    if _gpus(needs):
        return max(1, there.gpus // _gpus(needs))
    return max(1, there.cores // needs["threads"])


def _gpus(needs: Spec) -> int:
    return needs.get("gpu", 0) * needs.get("nodes", 1)


def _until_done(hours: list[float], at_once: int) -> float:
    """Return when jobs end of which each, the longest first, takes the place that is free first."""
    places = [0.0] * min(at_once, len(hours))
    for duration in sorted(hours, reverse=True):
        heapq.heapreplace(places, places[0] + duration)
    return max(places)
