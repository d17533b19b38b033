"""A training whose Snakemake is interrupted gives the same result as an uninterrupted one."""

import os
import signal

import pytest

from tests.slurm.training import check
from workflow_scripts.common.files import read_json


@pytest.mark.usefixtures("heard")
def test_ctrl_c_cancels_the_job_and_the_next_start_resumes(training, uninterrupted):
    training.submit()
    training.wait_for_step(5)
    training.snakemake.send_signal(signal.SIGINT)
    training.end(expected=1)
    training.wait_for_state("CANCELLED")
    training.speed_up()
    training.again()
    check(training, uninterrupted)
    assert training.resumed_from()[0] >= 5


def test_a_terminated_snakemake_waits_for_its_job_and_the_next_start_loses_nothing(
    training, uninterrupted
):
    training.submit()
    training.wait_for_step(5)
    training.snakemake.send_signal(signal.SIGTERM)
    training.wait(lambda: "Will exit after" in training.printed(), "Snakemake's response")
    training.speed_up()
    training.end(expected=None)
    training.again()
    check(training, uninterrupted)
    assert training.resumed_from() == []


def test_a_killed_and_restarted_snakemake_does_not_disturb_the_running_job(training, uninterrupted):
    training.submit()
    training.wait_for_step(1)
    os.killpg(training.snakemake.pid, signal.SIGKILL)
    training.snakemake.wait()
    # However long the second job takes to start, the first one is still running.
    training.signal_trainers(signal.SIGSTOP)
    training.unlock()
    training.submit()
    # It finds the first job running and reports it; its retries find the result.
    training.wait_for_state("FAILED", number=1)
    training.signal_trainers(signal.SIGCONT)
    training.speed_up()
    training.end()
    check(training, uninterrupted)
    states = training.states()
    assert states[0] == states[-1] == "COMPLETED"
    assert training.resumed_from() == []


def test_a_training_that_finished_without_snakemake_is_not_repeated(training, uninterrupted):
    training.submit()
    training.wait_for_step(1)
    os.killpg(training.snakemake.pid, signal.SIGKILL)
    training.snakemake.wait()
    training.speed_up()
    training.wait_for_state("COMPLETED")
    finished = read_json(training.folder / "run.json")["finished"]
    training.unlock()
    training.again()
    check(training, uninterrupted)
    assert read_json(training.folder / "run.json")["finished"] == finished
