"""Jobs on one machine never share a GPU. No GPU is needed: their names are made up."""

import os
import subprocess
import sys
import time

import pytest

from workflow_scripts.common import gpus
from workflow_scripts.common.errors import StepError

SHOW = "import os, time; print(os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True); time.sleep(60)"


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that starts a command with GPUs; returns the process and its GPUs."""
    started = []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def begin(count):
        command = [sys.executable, "-m", "workflow_scripts.common.gpus", "--count", str(count)]
        command += ["--wait", "0", "--", sys.executable, "-c", SHOW]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process, process.stdout.readline().decode().strip()

    yield begin
    for process in started:
        process.kill()
        process.wait()


def test_concurrent_jobs_get_different_gpus(start):
    assert [start(1)[1], start(2)[1]] == ["0", "1,2"]


def test_a_job_without_a_free_gpu_is_refused_and_a_killed_one_releases_its_gpus(start):
    first, _ = start(2)
    refused, shown = start(2)
    assert shown == ""
    assert b"did not become free within 0 minutes" in refused.stderr.read()
    first.kill()
    first.wait()
    assert start(2)[1] == "0,1"


def test_a_refused_job_holds_no_gpu(start):
    start(2)
    start(2)
    assert start(1)[1] == "2"


def test_a_job_waits_for_a_gpu(start, tmp_path, monkeypatch):
    first, _ = start(3)
    monkeypatch.setattr(gpus.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(gpus.time, "sleep", lambda seconds: (first.kill(), first.wait()))
    started = time.monotonic()
    assert gpus.take(["0", "1", "2"], 1, wait_minutes=1) == ["0"]
    assert time.monotonic() - started < 30


def test_requesting_too_many_gpus_is_an_error():
    with pytest.raises(StepError, match="9 GPUs were requested, but only 2 are available"):
        gpus.take(["0", "1"], 9, wait_minutes=0)


def test_slurm_jobs_use_the_gpus_assigned_by_slurm(start, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert [start(1)[1], start(1)[1]] == ["0", "0"]


def test_a_job_without_gpus_keeps_its_environment(start):
    assert start(0)[1] == "0,1,2"


def test_an_unsafe_lock_folder_is_refused(start, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"gpus-of-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    process, shown = start(1)
    assert shown == ""
    assert b"is not a folder" in process.stderr.read()
