"""Reads the nodes of a Slurm cluster from ``sinfo``."""

import math
import re
import subprocess
from dataclasses import dataclass

from workflow_scripts.common.errors import StepError

# Partition (* marks the default), number of nodes; cores, MB and GRES per node; time limit.
_FORMAT = "%P %D %c %m %G %l"
_GPUS = re.compile(r"gpu(?::(?P<model>[^:,(]+))?:(?P<count>\d+)")
_PATIENCE = 60  # seconds


@dataclass(frozen=True)
class Nodes:
    """``count`` equal nodes of a partition.

    Attributes:
        partition: Name of the partition.
        default: Whether it is the default partition.
        count: Number of nodes.
        cores: Cores per node.
        mem_mb: Memory per node.
        gpus: GPUs per node, by model ("" if unknown).
        minutes: Time limit of jobs; infinity if there is none.
    """

    partition: str
    default: bool
    count: int
    cores: int
    mem_mb: int
    gpus: dict[str, int]
    minutes: float

    def gpus_of(self, model: str | None) -> int:
        """Return the number of GPUs per node, of one model or in total."""
        return sum(self.gpus.values()) if model is None else self.gpus.get(model, 0)


def read_offer() -> list[Nodes]:
    """Return the nodes of all partitions, one entry for each kind of node in a partition.

    Raises:
        StepError: ``sinfo`` is not installed, or Slurm does not respond.
    """
    # --exact: nodes that differ are not merged into one line ("64+").
    command = ["sinfo", "--noheader", "--exact", "--format", _FORMAT]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except FileNotFoundError as error:
        raise StepError(
            "the executor is slurm, but sinfo is not on PATH; start Snakemake on a login node of "
            "the cluster, or load its Slurm module"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise StepError(
            f"sinfo did not respond within {_PATIENCE} seconds; check that Slurm is running"
        ) from error
    if done.returncode:
        reason = " ".join(done.stderr.split()[-12:])
        raise StepError(
            f"sinfo failed ({reason}), so no job can be submitted; check that Slurm is running"
        )
    return [_parse(line) for line in done.stdout.splitlines() if line.strip()]


def _parse(line: str) -> Nodes:
    partition, count, cores, memory, resources, limit = line.split()
    gpus: dict[str, int] = {}
    for found in _GPUS.finditer(resources):
        model = found["model"] or ""
        gpus[model] = gpus.get(model, 0) + int(found["count"])
    return Nodes(
        partition=partition.rstrip("*"),
        default=partition.endswith("*"),
        count=int(count),
        cores=int(cores.rstrip("+")),
        mem_mb=int(memory.rstrip("+")),
        gpus=gpus,
        minutes=_minutes(limit),
    )


def _minutes(limit: str) -> float:
    """Return the minutes of ``[days-]hours:minutes:seconds``; infinity if there is no limit."""
    if not re.fullmatch(r"(\d+-)?[\d:]+", limit):
        return math.inf
    days, _, clock = limit.rpartition("-")
    hours, minutes, seconds = [0, 0, 0, *map(int, clock.split(":"))][-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60
