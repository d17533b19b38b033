"""Submits the tiny workflow to a private Slurm with the profile that users have."""

import datetime
import subprocess
import sys
from pathlib import Path

from tests.slurm.private_slurm import PrivateSlurm
from tests.workflow.running import Workflow

# A shorter waiting time than on a cluster for files of other nodes.
OPTIONS = ("--profile", "profiles/slurm", "--latency-wait", "10", "--slurm-keep-successful-logs")
PROGRAM = (sys.executable, str(Path(__file__).with_name("polling_snakemake.py")))


def submitting_to(slurm: PrivateSlurm, folder: Path) -> Workflow:
    """Return a copy of the workflow in a folder, to be run on a private Slurm."""
    return Workflow(folder, OPTIONS, slurm.environment, PROGRAM)


def start(workflow: Workflow, *arguments: str, config: dict) -> subprocess.Popen:
    """Start Snakemake; its output is appended to the file ``printed``."""
    with (workflow.folder / "printed").open("a") as printed:
        return subprocess.Popen(
            workflow.command(*arguments, config=config),
            cwd=workflow.folder,
            env=workflow.environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def rule_of(job: dict[str, str]) -> str:
    """Return the name of the rule or group of a Slurm job."""
    name = job["Comment"].partition("_wildcards_")[0].strip().removeprefix("rule_")
    return "results" if name.startswith("results_") else name


def of_workflow(slurm: PrivateSlurm, workflow: Workflow) -> list[dict[str, str]]:
    """Return the jobs that a copy of the workflow has submitted."""
    return [job for job in slurm.jobs() if job["WorkDir"] == str(workflow.folder)]


def time_of(job: dict[str, str], event: str) -> datetime.datetime:
    """Return the ``StartTime`` or ``EndTime`` of a job."""
    return datetime.datetime.fromisoformat(job[event])
