"""Ctrl-C stops Snakemake and its jobs cleanly, and the next run resumes."""

import os
import signal
import subprocess
import time

import pytest

# A separate training that is long enough to be interrupted.
LONGER = {
    "starts": {"demo_mmcl": {"epochs": 6}},
    "experiments": {"pretraining_dynamics": {"start": ["demo_mmcl"], "baseline": []}},
}
PATIENCE = 600  # seconds


def interrupted_while_training(workflow):
    """Run Snakemake and send Ctrl-C at the first checkpoint; return its output and the run."""
    folder = workflow.folder / "results/demo/pretraining"
    before = set(folder.iterdir())
    process = subprocess.Popen(
        workflow.command("pretraining_dynamics", "--cores", "1", config=LONGER),
        cwd=workflow.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE
    runs = []
    while not runs and time.monotonic() < deadline and process.poll() is None:
        runs = [run for run in set(folder.iterdir()) - before if any(run.glob("checkpoints/*"))]
        time.sleep(0.1)
    # Like a terminal, signal all processes: Snakemake and its jobs.
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    return said, runs[0]


@pytest.mark.usefixtures("heard")
def test_ctrl_c_leaves_a_checkpoint_from_which_the_next_run_resumes(copied):
    said, run = interrupted_while_training(copied)
    assert "Traceback" not in said, said
    log = copied.folder / f"results/demo/logs/pretraining/{run.name}.log"
    assert log.read_text().count("stopped by SIGINT") == 1
    assert not (run / "model.pt").exists()
    assert any(run.glob("checkpoints/*"))
    done = copied.snakemake("pretraining_dynamics", config=LONGER)
    assert done.returncode == 0, done.stdout
    assert "resuming from the checkpoint of step" in log.read_text()
    assert (run / "model.pt").exists()
