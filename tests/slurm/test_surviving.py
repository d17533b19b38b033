"""Whatever ends a training on Slurm, its result is that of one which nothing happened to."""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slurm.submitting import of_workflow, rule_of, start, submitting_to
from tests.workflow.running import Workflow, copy_workflow
from workflow_scripts.common.files import read_json

FILES = ("model.pt", "optimizer.pt", "metrics.csv")
CONFIG = {
    "experiments": {"one": {"start": ["demo_mmcl"]}},
    "pretraining": {"epochs": 12},
    # A checkpoint about every second; of a time limit of a minute, half is left to the trainer.
    "execution": {"device": "cpu", "checkpoint": {"minutes": 0.02, "before_limit": 1}},
    "resources": {"pretraining": {"threads": 1, "mem_mb": 3000, "runtime": 9, "gpu": 1}},
    "cluster": {"partition": {"cpu": "main", "gpu": "main"}},
}
# Slurm's shortest time limit.
ONE_MINUTE = CONFIG | {"cluster": {**CONFIG["cluster"], "max_runtime": 1}}


class Training:
    """One pre-training, submitted by a Snakemake that runs beside the test."""

    def __init__(self, slurm, workflow: Workflow, config: dict):
        self.slurm, self.workflow, self.config = slurm, submitting_to(slurm, workflow), config
        self.folder = workflow.folder / "results/demo/pretraining" / spec_of(workflow).stem
        self.target = str(self.folder.relative_to(workflow.folder) / "run.json")
        self.snakemake = None

    def submit(self) -> None:
        self.snakemake = start(self.workflow, self.target, config=self.config)

    def jobs(self) -> list[dict[str, str]]:
        return [j for j in of_workflow(self.slurm, self.workflow) if rule_of(j) == "pretraining"]

    def states(self) -> list[str]:
        """Return how Slurm left each of the training's jobs."""
        return [job["JobState"] for job in self.jobs()]

    def wait(self, happened, what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"waited in vain for {what}\n{self.printed()}"
            time.sleep(0.1)

    def wait_for_step(self, step: int) -> None:
        """Wait for a checkpoint of this step or a later one."""
        files = f"checkpoints/step-{'[0-9]' * 9}-*.pt"
        self.wait(
            lambda: any(int(f.name[5:14]) >= step for f in self.folder.glob(files)),
            f"step {step}",
        )

    def wait_for_state(self, state: str, number: int = 0, seconds: float = 300) -> None:
        """Wait until the job of this number is in a state of Slurm's."""

        def there() -> bool:
            jobs = self.jobs()
            return len(jobs) > number and jobs[number]["JobState"] == state

        self.wait(there, f"{state} of job {number}", seconds)

    def trainers(self) -> list[int]:
        """Return the processes that train."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                cwd = (entry / "cwd").readlink()
                trains = b"workflow_scripts.training.train" in words and b"-c" not in words
                if trains and cwd == self.workflow.folder:
                    found.append(int(entry.name))
        return found

    def signal_trainers(self, number: signal.Signals) -> None:
        found = self.trainers()
        assert found
        for pid in found:
            os.kill(pid, number)

    def end(self, expected: int | None = 0, seconds: float = 500) -> None:
        """Wait for Snakemake to end."""
        status = self.snakemake.wait(seconds)
        assert expected is None or (status == 0) == (expected == 0), self.printed()

    def again(self) -> None:
        """Start Snakemake again as a user would, and wait for it."""
        unlocked = self.workflow.snakemake("--unlock")
        assert unlocked.returncode == 0, unlocked.stdout
        self.submit()
        self.end()

    def printed(self) -> str:
        logs = sorted(self.workflow.folder.glob("results/demo/logs/pretraining/*.log"))
        return "\n".join(f.read_text()[-3000:] for f in [self.workflow.folder / "printed", *logs])

    def resumed_from(self) -> list[int]:
        return [r["step"] for r in read_json(self.folder / "run.json")["resumptions"]]


def spec_of(workflow: Workflow) -> Path:
    """Return the spec of the one training."""
    (row,) = csv.DictReader((workflow.folder / "results/demo/experiments/one/runs.csv").open())
    return workflow.folder / f"results/demo/workflow/specs/pretraining/{row['run']}.json"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Workflow:
    """All that a pre-training needs, made without Slurm."""
    workflow = copy_workflow(tmp_path_factory.mktemp("prepared"))
    specs = workflow.snakemake("one", "--until", "runs_table", config=CONFIG)
    assert specs.returncode == 0, specs.stdout
    inputs = read_json(spec_of(workflow))["inputs"]
    made = workflow.snakemake(
        inputs["tokens"], f"{inputs['evaluation']}/manifest.parquet", config=CONFIG
    )
    assert made.returncode == 0, made.stdout
    return workflow


@pytest.fixture(scope="module")
def uninterrupted(prepared) -> dict[str, bytes]:
    """The files of the same training, to which nothing happened."""
    output = prepared.folder / "uninterrupted"
    command = [
        sys.executable,
        "-m",
        "workflow_scripts.training.train",
        "--spec",
        str(spec_of(prepared)),
    ]
    subprocess.run([*command, "--output", str(output)], cwd=prepared.folder, check=True)
    return {name: (output / name).read_bytes() for name in FILES}


@pytest.fixture
def training(slurm, prepared, tmp_path, request):
    """The training in a folder of its own; a test may lay another config over it."""
    folder = tmp_path / "workflow"
    shutil.copytree(prepared.folder, folder, symlinks=True)
    training = Training(slurm, Workflow(folder), getattr(request, "param", CONFIG))
    yield training
    if training.snakemake.poll() is None:
        os.killpg(training.snakemake.pid, signal.SIGKILL)
    for job in training.jobs():
        slurm.run("scancel", "--quiet", job["JobId"])


def check(training: Training, uninterrupted: dict[str, bytes]) -> None:
    """Check that the result is there, the same bytes as if nothing had happened."""
    made = {name: (training.folder / name).read_bytes() for name in FILES}
    assert [name for name in FILES if made[name] != uninterrupted[name]] == []


def test_cancelled_it_is_submitted_again_and_goes_on(training, uninterrupted, slurm):
    training.submit()
    training.wait_for_step(20)
    slurm.run("scancel", training.jobs()[0]["JobId"])
    training.end()
    check(training, uninterrupted)
    assert training.states() == ["CANCELLED", "COMPLETED"]
    assert training.resumed_from()[0] >= 20


@pytest.mark.parametrize("training", [ONE_MINUTE], indirect=True)
def test_hung_until_its_time_limit_it_is_submitted_again_and_goes_on(training, uninterrupted):
    training.submit()
    training.wait_for_step(20)
    training.signal_trainers(signal.SIGSTOP)
    training.wait_for_state("TIMEOUT", seconds=300)
    training.end()
    check(training, uninterrupted)
    assert training.states()[0] == "TIMEOUT"
    assert training.resumed_from()[0] >= 20


@pytest.mark.parametrize("training", [ONE_MINUTE], indirect=True)
def test_before_its_time_limit_it_ends_in_good_order_and_goes_on(training, uninterrupted):
    training.submit()
    training.wait_for_step(20)
    training.signal_trainers(signal.SIGSTOP)
    time.sleep(30)
    training.signal_trainers(signal.SIGCONT)
    training.wait_for_state("FAILED")
    assert "stopped by the end of its 0." in training.printed()
    training.end()
    check(training, uninterrupted)
    assert training.states()[0] == "FAILED"


def test_after_its_node_has_failed_slurm_starts_it_again(training, uninterrupted, slurm):
    training.submit()
    training.wait_for_step(20)
    slurm.fail_node("node1")
    training.wait(lambda: training.jobs()[0]["Restarts"] == "1", "the requeueing")
    slurm.start_node("node1")
    training.end()
    check(training, uninterrupted)
    (job,) = training.jobs()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert training.resumed_from()[0] >= 20


def test_preempted_by_a_more_urgent_job_it_waits_and_goes_on(training, uninterrupted, slurm):
    training.submit()
    training.wait_for_step(20)
    urgent = ("--partition=urgent", "--gpus=8", "--mem=100", "--time=1", "--output=/dev/null")
    slurm.run("sbatch", *urgent, "--nodes=1", "--wrap=sleep 3")
    training.end()
    check(training, uninterrupted)
    (job,) = training.jobs()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert training.resumed_from()[0] >= 20


def test_after_ctrl_c_its_job_is_cancelled_and_a_new_start_goes_on(training, uninterrupted):
    training.submit()
    training.wait_for_step(20)
    training.snakemake.send_signal(signal.SIGINT)
    training.end(expected=1)
    training.wait_for_state("CANCELLED")
    training.again()
    check(training, uninterrupted)
    assert training.resumed_from()[0] >= 20


def test_snakemake_terminated_waits_for_its_job_and_a_new_start_loses_nothing(
    training, uninterrupted
):
    training.submit()
    training.wait_for_step(20)
    training.snakemake.send_signal(signal.SIGTERM)
    training.end(expected=None)
    training.again()
    check(training, uninterrupted)
    assert training.resumed_from() == []


def test_snakemake_killed_and_started_again_leaves_the_running_job_in_peace(
    training, uninterrupted
):
    training.submit()
    training.wait_for_step(10)
    os.killpg(training.snakemake.pid, signal.SIGKILL)
    training.snakemake.wait()
    training.again()
    check(training, uninterrupted)
    states = training.states()
    # The second found the first at work, said so, and its retries found the result.
    assert states[0] == states[-1] == "COMPLETED"
    assert training.resumed_from() == []


def test_a_training_that_ended_while_no_snakemake_ran_is_not_done_again(training, uninterrupted):
    training.submit()
    training.wait_for_step(10)
    os.killpg(training.snakemake.pid, signal.SIGKILL)
    training.snakemake.wait()
    training.wait_for_state("COMPLETED")
    finished = read_json(training.folder / "run.json")["finished"]
    training.again()
    check(training, uninterrupted)
    assert read_json(training.folder / "run.json")["finished"] == finished
