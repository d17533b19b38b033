"""Ctrl-C ends a step and its worker processes with one sentence."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("heard")
STEP = """
import sys, time
from pathlib import Path
from workflow_scripts.common.errors import run_step
from workflow_scripts.common.workers import worker_pool

def main():
    with worker_pool(2) as pool:
        list(pool.map(time.sleep, [0, 0]))
        print("ready", flush=True)
        {work}

if __name__ == "__main__":
    run_step(main)
"""
WORK = {
    "waiting for workers": "list(pool.map(time.sleep, [60, 60, 60, 60]))",
    "working itself": "time.sleep(60)",
}


@pytest.mark.parametrize("work", WORK)
def test_ctrl_c_ends_a_step_and_its_workers_in_one_sentence(tmp_path, work):
    script = tmp_path / "step.py"
    script.write_text(STEP.format(work=WORK[work]))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    # Returns when all processes that hold standard error have ended, including the workers.
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "stopped by SIGINT (Ctrl-C)\n")
