"""A pre-training on a private Slurm that tests interrupt."""

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.slurm.private_slurm import PrivateSlurm
from tests.slurm.submitting import of_workflow, rule_of, start, submitting_to
from tests.workflow.running import Workflow
from workflow_scripts.common.files import read_json

FILES = ("model.pt", "optimizer.pt", "metrics.csv")
SLOW_TERM = Path(__file__).with_name("slow.py")
CONFIG = {
    "experiments": {"one": {"start": ["demo_mmcl"]}},
    "starts": {"demo_mmcl": {"objective": {SLOW_TERM.name: 1.0}}},
    "pretraining": {"epochs": 3},
    # A checkpoint about every second; the trainer may use half of a short time limit.
    "execution": {"device": "cpu", "checkpoint": {"minutes": 0.02, "before_limit": 1}},
    "resources": {"pretraining": {"threads": 1, "mem_mb": 3000, "runtime": 9, "gpu": 1}},
    "cluster": {"partition": {"cpu": "main", "gpu": "main"}},
}


class Training:
    """A pre-training submitted by a Snakemake process in the background; a context manager.

    Its steps take half a second until :meth:`speed_up` is called.

    Args:
        slurm: The private Slurm.
        prepared: The workflow with the inputs of the training.
        folder: Folder to which it is copied.
        config: Overrides of the tiny config.
    """

    def __init__(self, slurm: PrivateSlurm, prepared: Workflow, folder: Path, config: dict):
        shutil.copytree(prepared.folder, folder, symlinks=True)
        self.slurm, self.workflow, self.config = slurm, submitting_to(slurm, folder), config
        self.folder = folder / "results/demo/pretraining" / spec_of(self.workflow).stem
        self.target = str(self.folder.relative_to(folder) / "run.json")
        self.slow = folder / "slow"
        self.slow.touch()
        self.snakemake = None

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_: object) -> None:
        if self.snakemake.poll() is None:
            os.killpg(self.snakemake.pid, signal.SIGKILL)
        for job in self.jobs():
            self.slurm.run("scancel", "--quiet", job["JobId"])

    def submit(self) -> None:
        self.snakemake = start(self.workflow, self.target, config=self.config)

    def speed_up(self) -> None:
        self.slow.unlink()

    def jobs(self) -> list[dict[str, str]]:
        return [j for j in of_workflow(self.slurm, self.workflow) if rule_of(j) == "pretraining"]

    def states(self) -> list[str]:
        """Return the final state of each of the training's jobs."""
        return [job["JobState"] for job in self.jobs()]

    def limit(self, minutes: int) -> None:
        """Change the time limit of the latest job."""
        job = self.jobs()[-1]["JobId"]
        self.slurm.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")

    def wait(self, happened, what: str, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, (
                f"waited in vain for {what}; the jobs are {self.states()}\n{self.printed()}"
            )
            time.sleep(0.5)

    def wait_for_step(self, step: int) -> None:
        """Wait for a checkpoint of this step or a later one."""
        files = f"checkpoints/step-{'[0-9]' * 9}-*.pt"
        self.wait(
            lambda: any(int(f.name[5:14]) >= step for f in self.folder.glob(files)),
            f"step {step}",
        )

    def wait_for_state(self, state: str, number: int = 0, seconds: float = 300) -> None:
        """Wait until the job with this number is in a Slurm state."""

        def there() -> bool:
            jobs = self.jobs()
            return len(jobs) > number and jobs[number]["JobState"] == state

        self.wait(there, f"{state} of job {number}", seconds)

    def trainers(self) -> list[int]:
        """Return the training processes."""
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

    def unlock(self) -> None:
        """Do what a user has to do after Snakemake was killed."""
        unlocked = self.workflow.snakemake("--unlock")
        assert unlocked.returncode == 0, unlocked.stdout

    def again(self) -> None:
        """Start Snakemake again, and wait for it."""
        self.submit()
        self.end()

    def printed(self) -> str:
        logs = sorted(self.workflow.folder.glob("results/demo/logs/pretraining/*.log"))
        return "\n".join(f.read_text()[-3000:] for f in [self.workflow.folder / "printed", *logs])

    def resumed_from(self) -> list[int]:
        return [r["step"] for r in read_json(self.folder / "run.json")["resumptions"]]


def spec_of(workflow: Workflow) -> Path:
    """Return the spec of the training."""
    (row,) = csv.DictReader((workflow.folder / "results/demo/experiments/one/runs.csv").open())
    return workflow.folder / f"results/demo/workflow/specs/pretraining/{row['run']}.json"


def made_in(folder: Path) -> dict[str, bytes]:
    """Return the files that a training has made in its folder."""
    return {name: (folder / name).read_bytes() for name in FILES}


def check(training: Training, uninterrupted: dict[str, bytes]) -> None:
    """Check that the result exists and has the same bytes as without interruption."""
    made = made_in(training.folder)
    assert [name for name in FILES if made[name] != uninterrupted[name]] == []


def check_restarted(training: Training) -> None:
    """Check that Slurm restarted the first job once, and that the last job completed.

    Right after a node's failure, Slurm may end the restarted job as well when it cleans up, or its
    processes may not connect. Snakemake then retries it.
    """
    assert training.jobs()[0]["Restarts"] == "1"
    *failed, last = training.states()
    assert last == "COMPLETED"
    assert set(failed) <= {"FAILED"}


def train_here(prepared: Workflow, output: Path, *options: str) -> None:
    """Run the same training without Slurm in the folder ``output``."""
    command = [sys.executable, "-m", "workflow_scripts.training.train", *options]
    where = ("--spec", str(spec_of(prepared)), "--output", str(output))
    subprocess.run([*command, *where], cwd=prepared.folder, check=True)
