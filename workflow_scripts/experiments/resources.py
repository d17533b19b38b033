"""Resources of each rule (cores, memory, time, GPUs), as Snakemake and Slurm expect them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workflow_scripts.experiments.estimate import configured_speed, training_seconds
from workflow_scripts.experiments.expand import Plan
from workflow_scripts.experiments.layout import share_of_training

Spec = dict[str, Any]

_TRAININGS = ("pretraining", "cleaning")


def rule_resources(config: Spec, plan: Plan, rule: str, gpus: int | None = None) -> Spec:
    """Return the resources of a rule, from ``resources`` and ``cluster`` of the config.

    Args:
        config: The checked config.
        plan: Its expanded experiments.
        rule: Name of the rule.
        gpus: Number of GPUs that Snakemake may use (``--resources gpu=N``); None if not limited.
    """
    declared, site = config["resources"][rule], config["cluster"]
    gpu, nodes = declared.get("gpu", 0), declared.get("nodes", 1)
    kind = "gpu" if gpu else "cpu"
    # A retried training resumes from its checkpoint and needs no more resources than before.
    grows = rule not in _TRAININGS
    processes = gpu if gpus is None or nodes > 1 else min(gpu, max(gpus, 1))
    asked = {
        "nodes": nodes,
        # A profile may limit it to run the jobs of a group one after the other.
        "in_turn": 1,
        "cpus_per_task": declared["threads"],
        "mem_mb": lambda w, attempt: declared["mem_mb"] * (attempt if grows else 1),
        "runtime": _run_time(config, plan, rule, max(processes, 1) * nodes),
        "gpu": gpu,
        # Training processes per node; a resource, because a changed param repeats the training.
        # Snakemake lowers `gpu` of a job to its limit, but knows nothing of other resources.
        "processes": processes,
        "gpu_model": gpu and site["gpu_model"],
        "slurm_partition": site["partition"][kind],
        "slurm_account": site["account"],
    }
    if nodes > 1:
        asked |= _on_several_nodes(gpu, site["gpu_model"], declared["threads"])
    return {key: value for key, value in asked.items() if value or key in ("gpu", "processes")}


def _run_time(config: Spec, plan: Plan, rule: str, processes: int) -> Callable[..., int]:
    """Return the function that computes a rule's run time in minutes for a job and an attempt."""
    base, longest = config["resources"][rule]["runtime"], config["cluster"]["max_runtime"]

    def of_step(w: Any, attempt: int) -> int:
        return min(longest, base * attempt)

    def of_training(w: Any, input: Any, attempt: int) -> int:
        manifest = next(file for file in input if Path(file).name == "manifest.parquet")
        minutes = _training_minutes(config, plan, w.id, _rows(manifest)) / processes
        if rule == "pretraining":
            minutes *= share_of_training(plan, "/".join(w))
        estimate = config["cluster"]["slack"] * minutes
        return min(longest, math.ceil(base + estimate) * attempt)

    return of_training if rule in _TRAININGS else of_step


def _rows(manifest: str) -> int:
    """Return the number of pairs of a manifest."""
    from pyarrow import parquet  # noqa: PLC0415 (slow to import, and few jobs are trainings)

    # Snakemake waits for a missing file if the error names it, which Arrow's error does not.
    with Path(manifest).open("rb") as file:
        return parquet.read_metadata(file).num_rows


def _training_minutes(config: Spec, plan: Plan, run: str, pairs: int) -> float:
    """Return the estimated minutes of a training on one GPU or core."""
    spec, costs = plan.runs[run], config["costs"]
    return training_seconds(costs, spec, pairs, configured_speed(costs, spec)) / 60


def _on_several_nodes(gpu: int, model: str | None, threads: int) -> Spec:
    """Return the resources with which the executor plugin reserves several equal nodes.

    The plugin treats such a job as an MPI job, whose command calls srun itself and which has at
    least two tasks per node.
    """
    tasks = max(2, gpu)
    return {
        "mpi": "srun",
        "tasks_per_node": tasks,
        "cpus_per_task": math.ceil(threads / tasks),
        # `gpu` is the total of the job, which Slurm may distribute unevenly over nodes.
        "gres": ":".join(filter(None, ["gpu", model, str(gpu)])),
        "gpu": 0,
        "gpu_model": None,
    }
