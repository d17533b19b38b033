"""Preflight checks of a Slurm cluster: its resources, and whether it would accept the jobs."""

import math
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.slurm import Nodes, read_offer

Spec = dict[str, Any]

_PATIENCE = 60  # seconds


def slurm_checks(config: Spec, rules: list[str]) -> Iterator[Any]:
    """Yield the checks of the Slurm resources that the jobs of rules request."""
    offer: list[Nodes] = []
    yield partial(check_slurm, offer)
    # Filled by the check above; if Slurm does not answer, there is nothing to compare with.
    if offer:
        for rule in rules:
            yield partial(check_nodes, config, rule, offer)
        for partition in dict.fromkeys(_partition(config, rule) for rule in rules):
            yield partial(check_time_limit, config, partition, offer)
        for rule in _one_of_each(config, rules):
            yield partial(check_submission, config, rule)


def _one_of_each(config: Spec, rules: list[str]) -> list[str]:
    """Return the rule with the most cores among those without GPUs and among those with GPUs."""
    by_kind: dict[bool, str] = {}
    for rule in sorted(rules, key=lambda rule: config["resources"][rule]["threads"]):
        by_kind[config["resources"][rule].get("gpu", 0) > 0] = rule
    return list(by_kind.values())


def check_slurm(offer: list[Nodes]) -> str:
    """Check that Slurm responds; append its nodes to ``offer``."""
    offer += read_offer()
    return f"Slurm responds and has the partitions {_partitions(offer)}"


def check_nodes(config: Spec, rule: str, offer: list[Nodes]) -> str:
    """Check that nodes of a rule's partition have the cores, memory and GPUs that it requests.

    If several partitions are given ("a,b"), one of them suffices.
    """
    needs, model = config["resources"][rule], config["cluster"]["gpu_model"]
    gpus, cores, memory = needs.get("gpu", 0), needs["threads"], needs["mem_mb"]
    wanted = _partition(config, rule)
    for name in _names(wanted):
        if not _nodes_of(name, offer):
            lacking = f"partition {name}, which {rule} is sent to" if name else "default partition"
            raise StepError(
                f"Slurm has no {lacking}; set cluster.partition to one of {_partitions(offer)}"
            )
    nodes = [node for name in _names(wanted) for node in _nodes_of(name, offer)]
    fitting: dict[str, int] = {}
    for n in nodes:
        if n.cores >= cores and n.mem_mb >= memory and (not gpus or n.gpus_of(model) >= gpus):
            fitting[n.partition] = fitting.get(n.partition, 0) + n.count
    # All nodes of a job belong to one partition.
    count, asked = needs.get("nodes", 1), _hardware(cores, memory, gpus, model)
    partition, most = max(fitting.items(), key=lambda item: item[1], default=("", 0))
    if most < count:
        offered = "; ".join(
            f"{n.count} x {_hardware(n.cores, n.mem_mb, n.gpus_of(model), model)}" for n in nodes
        )
        each = f"{asked} on each of {count} nodes" if count > 1 else asked
        lacking = f"only {most} nodes have that" if most else "no node has that"
        among = ", ".join(dict.fromkeys(n.partition for n in nodes))
        raise StepError(
            f"resources.{rule} requests {each}, but in the partition {among} {lacking} "
            f"({offered}); request less, or use another partition"
        )
    where = f"{count} nodes" if count > 1 else "a node"
    return f"{rule} fits on {where} of the partition {partition} ({asked})"


def check_time_limit(config: Spec, partition: str | None, offer: list[Nodes]) -> str:
    """Check that a partition, or one of several, allows the run times that jobs request."""
    longest = config["cluster"]["max_runtime"]
    limits = {
        name: min((n.minutes for n in _nodes_of(name, offer)), default=math.inf)
        for name in _names(partition)
    }
    limit = max(limits.values())
    text = f"{partition or 'default'} partition" + ("s" if len(limits) > 1 else "")
    allow = "allow" if len(limits) > 1 else "allows"
    if longest > limit:
        raise StepError(
            f"cluster.max_runtime is {longest} minutes, but the {text} {allow} only {limit:.0f}; "
            "lower cluster.max_runtime"
        )
    margin = config["execution"]["checkpoint"]["before_limit"]
    if longest <= margin:
        raise StepError(
            f"cluster.max_runtime is {longest} minutes, but a training ends {margin:g} minutes "
            "before its limit (execution.checkpoint.before_limit); raise the former or lower the "
            "latter"
        )
    short = [name for name, minutes in limits.items() if longest > minutes and name]
    but = f", but not {', '.join(short)}" if short else ""
    return f"the {text} {allow} jobs of {longest} minutes (cluster.max_runtime){but}"


def check_submission(config: Spec, rule: str) -> str:
    """Check that Slurm would accept a job of a rule: account, partition, limits of the user."""
    needs, site = config["resources"][rule], config["cluster"]
    gpus, partition = needs.get("gpu", 0), _partition(config, rule)
    asked = {
        "account": site["account"],
        "partition": partition,
        "nodes": needs.get("nodes", 1),
        "ntasks-per-node": 1,
        "cpus-per-task": needs["threads"],
        "mem": needs["mem_mb"],
        "time": min(needs["runtime"], site["max_runtime"]),
        "gres": gpus and ":".join(filter(None, ["gpu", site["gpu_model"], str(gpus)])),
    }
    options = [f"--{name}={value}" for name, value in asked.items() if value]
    command = ["sbatch", "--test-only", *options, "--wrap=true"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(
            "sbatch cannot be run; check that Slurm is running and its module is loaded"
        ) from error
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        account = site["account"] or "your default account"
        raise StepError(
            f"Slurm would reject a job of {rule} ({reason}); check cluster.account ({account}), "
            f"cluster.partition and resources.{rule}"
        )
    return f"Slurm would accept a job of {rule} (sbatch --test-only)"


def _partition(config: Spec, rule: str) -> str | None:
    kind = "gpu" if config["resources"][rule].get("gpu", 0) else "cpu"
    return config["cluster"]["partition"][kind]


def _names(partition: str | None) -> list[str | None]:
    """Return the names of a list of partitions ("a,b"); None is Slurm's default partition."""
    return [None] if partition is None else [name.strip() for name in partition.split(",")]


def _nodes_of(partition: str | None, offer: list[Nodes]) -> list[Nodes]:
    return [n for n in offer if (n.default if partition is None else n.partition == partition)]


def _partitions(offer: list[Nodes]) -> str:
    return ", ".join(sorted({nodes.partition for nodes in offer}))


def _hardware(cores: int, mem_mb: int, gpus: int, model: str | None) -> str:
    kind = f" {model}" if model else ""
    return f"{cores} cores, {mem_mb:,} MB" + (f", {gpus}{kind} GPUs" if gpus else "")
