"""Runs a copy of the workflow in a separate folder with a real Snakemake."""

import compileall
import dataclasses
import fcntl
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ["Snakefile", "config.yaml", "rules", "workflow_scripts", "envs", "profiles"]


@dataclasses.dataclass
class Workflow:
    """The workflow's files in ``folder``, to be run with the tiny config or with overrides."""

    folder: Path
    options: tuple[str, ...] = ("--profile", "profiles/demo")
    environment: dict[str, str] | None = None
    program: tuple[str, ...] = ("snakemake",)

    def command(self, *arguments: str, config: dict | None = None) -> list[str]:
        """Return the command line of Snakemake, with ``config`` overriding the tiny config."""
        overlay = self.folder / "overlay.json"
        overlay.write_text(json.dumps(config or {}))
        files = ["profiles/demo/demo.yaml", str(ROOT / "tests/workflow/tiny.yaml"), str(overlay)]
        return [*self.program, *self.options, *arguments, "--configfile", *files]

    def snakemake(self, *arguments: str, config: dict | None = None) -> subprocess.CompletedProcess:
        """Run Snakemake; stdout and stderr together are in ``stdout``."""
        return run(self.command(*arguments, config=config), self.folder, self.environment)

    def ran(self, *arguments: str, config: dict | None = None) -> None:
        """Run Snakemake, which has to succeed."""
        done = self.snakemake(*arguments, config=config)
        assert done.returncode == 0, done.stdout

    def dry_run(self, *targets: str, config: dict | None = None) -> dict[str, int]:
        """Return how many jobs of each rule a run of these targets would start."""
        targets = targets or ("all",)
        counts = job_counts(self.snakemake("-n", *targets, config=config))
        return {name: n for name, n in counts.items() if name not in targets}

    def copied(self, folder: Path) -> "Workflow":
        """Return a copy with all results in a new folder."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return dataclasses.replace(self, folder=folder)


def run(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run a command in a folder; stdout and stderr together are in ``stdout``."""
    if command[0] == "snakemake" and environment is None:
        return _run_in_fork(command, folder)
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        timeout=3600,
        check=False,
    )


def _run_in_fork(command: list[str], folder: Path) -> subprocess.CompletedProcess:
    server = _snakemake_server()
    with tempfile.NamedTemporaryFile("r") as output:
        request = json.dumps([command, str(folder), dict(os.environ), output.name])
        print(request, file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, status, output.read())


@functools.cache
def _snakemake_server() -> subprocess.Popen:
    """Return the process that runs Snakemake for this one; it ends when its stdin is closed."""
    command = [sys.executable, Path(__file__).with_name("snakemake_server.py")]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def job_counts(dry_run: subprocess.CompletedProcess) -> dict[str, int]:
    """Return the job table of a dry run, without targets and the total."""
    assert dry_run.returncode == 0, dry_run.stdout
    if "Nothing to be done" in dry_run.stdout:
        return {}
    table = dry_run.stdout.partition("Job stats:")[2].partition("Reasons:")[0]
    counts = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", table, re.M)}
    targets = ("all", "all_experiments", "total")
    return {name: n for name, n in counts.items() if name not in targets}


@functools.cache
def _compile() -> None:
    """Compile the steps once; otherwise, each copy would be compiled when it is used."""
    compileall.compile_dir(ROOT / "workflow_scripts", quiet=1)


def copy_workflow(folder: Path) -> Workflow:
    """Copy the workflow's files into a folder; WordNet is shared."""
    _compile()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            # Another process may be compiling as well, into files with temporary names.
            ignore = shutil.ignore_patterns("*.pyc.*")
            shutil.copytree(source, folder / part, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    (folder / "nltk_data").symlink_to(ROOT / "nltk_data")
    return Workflow(folder)


def session_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return the temporary folder that all workers of pytest-xdist share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


def shared(folder: Path, make: Callable[[Path], object]) -> Path:
    """Return ``folder`` after ``make`` has filled it.

    The first process that asks for it makes it, the others wait for it.
    """
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            try:
                make(folder)
            except BaseException:
                shutil.rmtree(folder)
                raise
    return folder


def shared_workflow(folder: Path, make: Callable[[Workflow], object]) -> Workflow:
    """Return a copy of the workflow to which ``make`` was applied; all processes share it."""
    return Workflow(shared(folder, lambda new: make(copy_workflow(new))))
