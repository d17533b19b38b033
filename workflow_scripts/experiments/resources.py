"""What each rule asks for: cores, memory, time and GPUs, as Snakemake and Slurm take them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_scripts.experiments.estimate import configured_speed, training_seconds
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import share_of_training

Spec = dict[str, Any]

_TRAININGS = ("pretraining", "cleaning")


def rule_resources(config: Spec, plan: Plan, rule: str) -> Spec:
    """Return the resources of a rule: those of its name in the config, as its site calls them."""
    declared, site = config["resources"][rule], config["cluster"]
    gpu, nodes = declared.get("gpu", 0), declared.get("nodes", 1)
    kind = "gpu" if gpu else "cpu"
    # A training that is tried again goes on where it was, and needs no more than before.
    grows = rule not in _TRAININGS
    asked = {
        "nodes": nodes,
        # A profile makes the members of a group take turns by it.
        "in_turn": 1,
        "cpus_per_task": declared["threads"],
        "mem_mb": lambda w, attempt: declared["mem_mb"] * (attempt if grows else 1),
        "runtime": _run_time(config, plan, rule),
        "gpu": gpu,
        # Of a training, on each node; a resource, because a changed parameter would train anew.
        "processes": gpu,
        "gpu_model": gpu and site["gpu_model"],
        "slurm_partition": site["partition"][kind],
        "slurm_account": site["account"],
    }
    if nodes > 1:
        asked |= _on_several_nodes(gpu, site["gpu_model"], declared["threads"])
    return {key: value for key, value in asked.items() if value or key in ("gpu", "processes")}


def _run_time(config: Spec, plan: Plan, rule: str) -> Callable[..., int]:
    """Return how a rule's run time in minutes follows from its data and the attempt."""
    base, longest = config["resources"][rule]["runtime"], config["cluster"]["max_runtime"]

    def of_step(w: Any, attempt: int) -> int:
        return min(longest, base * attempt)

    def of_training(w: Any, input: Any, attempt: int) -> int:
        manifest = next(file for file in input if Path(file).name == "manifest.parquet")
        minutes = _training_minutes(config, plan, w.id, _rows(manifest))
        if rule == "pretraining":
            minutes *= share_of_training(plan, "/".join(w))
        estimate = config["cluster"]["slack"] * minutes
        return min(longest, math.ceil(base + estimate) * attempt)

    return of_training if rule in _TRAININGS else of_step


def _rows(manifest: str) -> int:
    """Return the number of pairs of a manifest."""
    from pyarrow import parquet  # noqa: PLC0415 (takes long, and few jobs are trainings)

    # Snakemake waits for a file that is not there yet if the error names it: Arrow's does not.
    with Path(manifest).open("rb") as file:
        return parquet.read_metadata(file).num_rows


def _training_minutes(config: Spec, plan: Plan, run: str, pairs: int) -> float:
    """Return the estimated minutes of a training on the GPUs that it asks for."""
    spec, costs = plan.runs[run], config["costs"]
    asked = config["resources"][spec["kind"]]
    gpus = max(1, asked.get("gpu", 0)) * asked["nodes"]
    return training_seconds(costs, spec, pairs, configured_speed(costs, spec)) / gpus / 60


def _on_several_nodes(gpu: int, model: str | None, threads: int) -> Spec:
    """Return how the executor plugin is asked for as much on each of several nodes.

    Such a job is to it one of MPI, whose command calls srun itself, with two tasks or more on a
    node.
    """
    tasks = max(2, gpu)
    return {
        "mpi": "srun",
        "tasks_per_node": tasks,
        "cpus_per_task": math.ceil(threads / tasks),
        # `gpu` counts those of the whole job, which Slurm might share out unevenly.
        "gres": ":".join(filter(None, ["gpu", model, str(gpu)])),
        "gpu": 0,
        "gpu_model": None,
    }
