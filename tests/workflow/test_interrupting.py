"""Ctrl-C ends Snakemake without a traceback, whatever it is doing."""

import os
import signal
import subprocess

import pytest

pytestmark = pytest.mark.usefixtures("heard")
LIST = "results/demo/world/list.csv"


def _interrupted(workflow, after: str, *arguments: str) -> str:
    """Start Snakemake, press Ctrl-C when it prints a text, and return what it prints then."""
    process = subprocess.Popen(
        workflow.command(*arguments),
        cwd=workflow.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    next(line for line in process.stdout if after in line)
    # Python can lose a signal, as one that comes while it frees an object; people press again.
    for _ in range(60):
        os.killpg(process.pid, signal.SIGINT)
        try:
            printed, _ = process.communicate(timeout=1)
            break
        except subprocess.TimeoutExpired:
            continue
    else:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail("it does not end")
    assert process.returncode != 0, printed
    return printed


def test_while_the_workflow_is_read(untouched):
    printed = _interrupted(untouched, "is extended by additional config", "-n", "all_experiments")
    assert "stopped by SIGINT (Ctrl-C)" in printed
    assert "Traceback" not in printed


def test_while_a_step_runs(untouched):
    printed = _interrupted(untouched, "reason: Missing output files", LIST)
    assert "Traceback" not in printed
    assert len(printed.splitlines()) < 40
    assert not (untouched.folder / LIST).exists()
