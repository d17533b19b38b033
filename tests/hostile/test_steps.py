"""Repeat every step of a finished workflow: killed, on a full disk, and on a read-only disk.

KILLS=20 pytest tests/hostile/test_steps.py kills each step 20 times instead of once.
"""

import csv
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.workflow.running import Workflow, copy_workflow, session_folder, shared_workflow

KILLS = int(os.environ.get("KILLS", "1"))
RESULTS = "results/demo"
AUDIT = f"{RESULTS}/audits/poisoned/index.html"
TARGETS = ("all", "every_rule", "zoo", AUDIT, f"{RESULTS}/crate")
CONFIG = yaml.safe_load(Path(__file__).with_name("every_rule.yaml").read_text())
# All rules that write files; a test checks that the list is complete.
# `declared_runs` is left out: its command has several lines, which Snakemake's summary joins.
RULES = (
    "demo_world", "url_list", "download", "usable", "merge", "subset", "evaluation_set",
    "duplicates", "poison", "clean_split", "captions", "pretraining", "pretraining_taken",
    "cleaning", "artefact", "filter_pairs", "filter_classes", "measure", "leaks",
    "declared_artefacts", "declared_measures", "figure_spec", "runs_table", "collect",
    "collect_all", "best", "artefact_table", "measures_table", "figure", "page", "runs_report",
    "graph", "crate", "audit_of_demo", "zoo_model", "zoo_check", "zoo_index", "croissant",
)  # fmt: skip
# Shell commands, whose messages are not the project's.
OF_THE_SHELL = {
    "declared_artefacts", "declared_measures", "figure_spec", "runs_table", "graph"
}  # fmt: skip
# Not reproducible: they contain times and host names, and Graphviz's layout varies.
DIFFER = {
    "run.json", "timings.csv", "rules.svg", "jobs.svg", "ro-crate-metadata.json", "audit.json"
}  # fmt: skip
# Their outputs contain the durations of other jobs, some of which earlier tests have repeated.
OF_ALL_RUNS = {"page"}


@dataclass(frozen=True)
class Step:
    """One job of a rule: its command without redirection to a log, and its outputs."""

    command: str
    outputs: tuple[str, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, worker_id) -> Workflow:
    """A copy of the workflow in which every rule was run; each test restores what it removes."""
    shared = session_folder(tmp_path_factory, worker_id) / "every_rule"
    made = shared_workflow(shared, lambda workflow: workflow.ran(*TARGETS, config=CONFIG))
    return made.copied(tmp_path_factory.mktemp("finished") / "workflow")


@pytest.fixture(scope="module")
def steps(finished) -> dict[str, Step]:
    """The first job of each rule."""
    log = finished.snakemake("--detailed-summary", *TARGETS, config=CONFIG).stdout
    table = log[log.index("output_file") :].splitlines()
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
    """Return the contents of all existing output files."""
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
def test_a_killed_step_leaves_whole_files_and_can_be_repeated(finished, steps, rule):
    step, folder = steps[rule], finished.folder
    if rule in OF_ALL_RUNS:
        start(step.command, folder).communicate(timeout=300)
    whole = contents(folder, step.outputs)
    assert whole
    chance = random.Random(rule)
    seconds = 5.0  # initial guess of the step's duration
    for _ in range(KILLS):
        remove(folder, step.outputs)
        process = start(step.command, folder)
        time.sleep(seconds * chance.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        left = contents(folder, step.outputs)
        assert {name: whole[name] for name in left} == left, "a file was half written"
        started = time.monotonic()
        log, _ = start(step.command, folder).communicate(timeout=300)
        seconds = time.monotonic() - started
        assert contents(folder, step.outputs) == whole, log
    orphans = [p for o in step.outputs for p in (folder / o).parent.glob(".*.partial*")]
    assert orphans == []


def test_a_workflow_killed_anywhere_and_restarted_gives_the_same_result(finished, tmp_path):
    again = copy_workflow(tmp_path)
    main = CONFIG["experiments"]["main"] | {"baseline": []}
    fewer = CONFIG | {"experiments": CONFIG["experiments"] | {"main": main}}
    for seconds in (8, 16):
        process = start(shlex.join(again.command("main", config=fewer)), again.folder)
        time.sleep(seconds)
        assert process.poll() is None, "it ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        again.snakemake("--unlock")
    done = again.snakemake("main", config=fewer)
    assert done.returncode == 0, done.stdout
    results = again.folder / RESULTS
    names = [p for kind in ("pretraining", "cleaning") for p in results.glob(f"{kind}/*/*.*")]
    same = [p for p in names if p.suffix in (".csv", ".pt") and p.name not in DIFFER]
    assert len(same) >= 4
    for path in same:
        whole = finished.folder / RESULTS / path.relative_to(results)
        assert path.read_bytes() == whole.read_bytes(), path


# Overlay or read-only file systems over the results, in a private mount namespace.
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
def test_an_unwritable_disk_is_reported_in_one_sentence(finished, steps, rule, mount, tmp_path):
    step, folder = steps[rule], finished.folder
    kept = tmp_path / "kept"
    for output in step.outputs:
        (kept / output).parent.mkdir(parents=True, exist_ok=True)
        (folder / output).rename(kept / output)
    (tmp_path / "room").mkdir()
    (tmp_path / "step.sh").write_text(f"set -euo pipefail\n{step.command}\n")
    places = {"results": folder / RESULTS, "room": tmp_path / "room"}
    process = start(mount.format(script=tmp_path / "step.sh", **places), folder)
    log, _ = process.communicate(timeout=300)
    for output in step.outputs:
        (kept / output).rename(folder / output)
    if process.returncode == 0:
        assert mount is FULL, "nothing was written?"
        return  # its outputs fit into the remaining 16 kB
    assert "Traceback" not in log, log
    if rule not in OF_THE_SHELL:
        errors = [line for line in log.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, log
        assert re.search("disk is full|[Rr]ead-only", errors[0]), log
