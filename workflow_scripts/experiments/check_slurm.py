"""Preflight's checks of a Slurm cluster: what it offers, and whether it would take the jobs."""

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
    """Yield the checks of what the jobs of rules ask of Slurm."""
    offer: list[Nodes] = []
    yield partial(check_slurm, offer)
    # Filled when that check was made; without an answer there is nothing to compare with.
    if offer:
        for rule in rules:
            yield partial(check_nodes, config, rule, offer)
        for partition in dict.fromkeys(_partition(config, rule) for rule in rules):
            yield partial(check_time_limit, config, partition, offer)
        for rule in _one_of_each(config, rules):
            yield partial(check_submission, config, rule)


def _one_of_each(config: Spec, rules: list[str]) -> list[str]:
    """Return the rule with the most cores among those without, and among those with GPUs."""
    by_kind: dict[bool, str] = {}
    for rule in sorted(rules, key=lambda rule: config["resources"][rule]["threads"]):
        by_kind[config["resources"][rule].get("gpu", 0) > 0] = rule
    return list(by_kind.values())


def check_slurm(offer: list[Nodes]) -> str:
    """Check that Slurm answers; put what it offers into ``offer``."""
    offer += read_offer()
    return f"Slurm answers, and has the partitions {_partitions(offer)}"


def check_nodes(config: Spec, rule: str, offer: list[Nodes]) -> str:
    """Check that nodes of a rule's partition have the cores, memory and GPUs that it asks for.

    Of several partitions ("a,b"), one has to have them.
    """
    needs, model = config["resources"][rule], config["cluster"]["gpu_model"]
    gpus, cores, memory = needs.get("gpu", 0), needs["threads"], needs["mem_mb"]
    wanted = _partition(config, rule)
    for name in _names(wanted):
        if not _nodes_of(name, offer):
            lacking = f"partition {name}, which {rule} is to go to" if name else "default partition"
            raise StepError(
                f"Slurm has no {lacking}; name one of {_partitions(offer)} under cluster.partition"
            )
    nodes = [node for name in _names(wanted) for node in _nodes_of(name, offer)]
    fitting: dict[str, int] = {}
    for n in nodes:
        if n.cores >= cores and n.mem_mb >= memory and (not gpus or n.gpus_of(model) >= gpus):
            fitting[n.partition] = fitting.get(n.partition, 0) + n.count
    # A job runs on nodes of one partition.
    count, asked = needs.get("nodes", 1), _hardware(cores, memory, gpus, model)
    partition, most = max(fitting.items(), key=lambda item: item[1], default=("", 0))
    if most < count:
        there = "; ".join(
            f"{n.count} x {_hardware(n.cores, n.mem_mb, n.gpus_of(model), model)}" for n in nodes
        )
        each = f"{asked} on each of {count} nodes" if count > 1 else asked
        lacking = f"only {most} of them can be had" if most else "no node has that"
        among = ", ".join(dict.fromkeys(n.partition for n in nodes))
        raise StepError(
            f"resources.{rule} asks for {each}, and in the partition {among} {lacking} "
            f"({there}); ask for less, or name another partition"
        )
    where = f"{count} nodes" if count > 1 else "a node"
    return f"{rule} fits on {where} of the partition {partition} ({asked})"


def check_time_limit(config: Spec, partition: str | None, offer: list[Nodes]) -> str:
    """Check that a partition, or one of several, allows the run times that jobs ask for."""
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
            f"a job may ask for {longest} minutes, and the {text} {allow} {limit:.0f}; "
            "set cluster.max_runtime to no more than that"
        )
    margin = config["execution"]["checkpoint"]["before_limit"]
    if longest <= margin:
        raise StepError(
            f"cluster.max_runtime is {longest} minutes, and a training ends {margin:g} minutes "
            "before its limit (execution.checkpoint.before_limit); raise the one or lower the other"
        )
    short = [name for name, minutes in limits.items() if longest > minutes and name]
    but = f"; {', '.join(short)} only shorter ones" if short else ""
    return f"the {text} {allow} the {longest} minutes that a job may ask for{but}"


def check_submission(config: Spec, rule: str) -> str:
    """Check that Slurm would take a job of a rule: account, partition, limits of the user."""
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
        raise StepError("sbatch cannot be run; is Slurm up, and its module loaded?") from error
    if done.returncode:
        reason = (done.stderr.strip() or "it does not say why").splitlines()[-1]
        account = site["account"] or "your default account"
        raise StepError(
            f"Slurm would refuse a job of {rule} ({reason}); see cluster.account ({account}), "
            f"cluster.partition and resources.{rule}"
        )
    return f"Slurm would take a job of {rule} (sbatch --test-only)"


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
