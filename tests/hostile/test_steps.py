"""Every step of a finished workflow, once more: killed, on a full disk, in an unwritable folder.

KILLS=20 pytest tests/hostile/test_steps.py kills each step more often than the gate does.
"""

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.workflow.running import Workflow, copy_workflow

KILLS = int(os.environ.get("KILLS", "1"))
RESULTS = "results/demo"
# The steps of the tiny workflow's target `all`; the test of their list says if one is missing.
# `declared_runs` prints a table of several lines, which Snakemake's summary shows as one.
RULES = (
    "demo_world", "url_list", "download", "usable", "merge", "subset", "evaluation_set",
    "duplicates", "poison", "clean_split", "captions", "pretraining", "cleaning", "leaks",
    "figure_spec", "runs_table", "collect", "collect_all", "best", "figure", "page",
    "runs_report", "graph",
)  # fmt: skip
# Commands of the shell, whose messages are not ours.
OF_THE_SHELL = {"figure_spec", "runs_table", "graph"}
# They say when and where they were made; Graphviz places nodes as it likes.
DIFFER = {"run.json", "timings.csv", "rules.svg", "jobs.svg"}


@dataclass(frozen=True)
class Step:
    """One job of a rule: its command, without the log, and its outputs."""

    command: str
    outputs: tuple[str, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workflow:
    """A copy of the workflow with the tiny run done; each test puts back what it removes."""
    workflow = copy_workflow(tmp_path_factory.mktemp("finished"))
    done = workflow.snakemake("all")
    assert done.returncode == 0, done.stdout
    return workflow


@pytest.fixture(scope="module")
def steps(finished) -> dict[str, Step]:
    """The first job of each rule."""
    said = finished.snakemake("--detailed-summary", "all").stdout
    table = said[said.index("output_file") :].splitlines()
    jobs: dict[tuple[str, str], list[str]] = {}
    for row in csv.DictReader(table, delimiter="\t"):
        if row["shellcmd"] not in ("-", "", None):
            jobs.setdefault((row["rule"], row["shellcmd"]), []).append(row["output_file"])
    found: dict[str, Step] = {}
    for (rule, command), outputs in jobs.items():
        without_log = re.sub(r" 2?> \S*/logs/\S+(?: 2>&1)?", "", command)
        found.setdefault(rule, Step(without_log, tuple(outputs)))
    return found


def start(command: str, folder: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        ["bash", "-c", f"set -euo pipefail; {command}"],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def contents(folder: Path, outputs: tuple[str, ...]) -> dict[str, bytes]:
    """Return the bytes of all files of the outputs that there are."""
    files: list[Path] = []
    for output in outputs:
        path = folder / output
        files += path.rglob("*") if path.is_dir() else [path]
    return {
        str(file.relative_to(folder)): b"" if file.name in DIFFER else file.read_bytes()
        for file in files
        if file.is_file() and file.name != ".snakemake_timestamp"
    }


def remove(folder: Path, outputs: tuple[str, ...]) -> None:
    """Remove outputs as Snakemake does before it runs a job."""
    for output in outputs:
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def test_the_list_of_steps_is_complete(steps):
    assert set(steps) - {"declared_runs"} == set(RULES)


@pytest.mark.parametrize("rule", RULES)
def test_a_step_that_is_killed_leaves_whole_files_and_ends_the_same_when_run_again(
    finished, steps, rule
):
    step, folder = steps[rule], finished.folder
    whole = contents(folder, step.outputs)
    assert whole
    chance = random.Random(rule)
    seconds = 5.0  # until it is known how long the step takes
    for _ in range(KILLS):
        remove(folder, step.outputs)
        process = start(step.command, folder)
        time.sleep(seconds * chance.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        left = contents(folder, step.outputs)
        assert {name: whole[name] for name in left} == left, "a file was half written"
        begun = time.monotonic()
        said, _ = start(step.command, folder).communicate(timeout=300)
        seconds = time.monotonic() - begun
        assert contents(folder, step.outputs) == whole, said
    orphans = [p for o in step.outputs for p in (folder / o).parent.glob(".*.partial*")]
    assert orphans == []


# A file system that is laid over the results, in a name space of the step's own.
FULL = """unshare --map-root-user --mount bash -c '
mount -t tmpfs -o size=16k tmpfs {room} && mkdir {room}/upper {room}/work &&
mount -t overlay overlay -o lowerdir={results},upperdir={room}/upper,workdir={room}/work,userxattr \
{results} && exec bash {script}'"""
READ_ONLY = """unshare --map-root-user --mount bash -c '
mount --bind {results} {results} && mount -o remount,bind,ro {results} && exec bash {script}'"""


def can_mount() -> bool:
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )


@pytest.mark.skipif(not can_mount(), reason="mounting needs user name spaces")
@pytest.mark.parametrize("mount", [FULL, READ_ONLY], ids=["full", "read-only"])
@pytest.mark.parametrize("rule", RULES)
def test_a_disk_that_cannot_be_written_is_one_sentence(finished, steps, rule, mount, tmp_path):
    step, folder = steps[rule], finished.folder
    kept = tmp_path / "kept"
    for output in step.outputs:
        (kept / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).rename(kept / output)
    (tmp_path / "room").mkdir()
    (tmp_path / "step.sh").write_text(f"set -euo pipefail\n{step.command}\n")
    places = {"results": folder / RESULTS, "room": tmp_path / "room"}
    process = start(mount.format(script=tmp_path / "step.sh", **places), folder)
    said, _ = process.communicate(timeout=300)
    for output in step.outputs:
        (kept / output).rename(folder / output)
    if process.returncode == 0:
        assert mount is FULL, "nothing was written?"
        return  # what it writes is small enough for the last 16 kB
    assert "Traceback" not in said, said
    if rule not in OF_THE_SHELL:
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, said
        assert re.search("disk is full|[Rr]ead-only", errors[0]), said
