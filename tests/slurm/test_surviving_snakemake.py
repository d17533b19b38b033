"""A training whose Snakemake is interrupted gives the same result as an uninterrupted one."""

import os
import signal

import pytest

from tests.slurm.training import check
from workflow_scripts.common.files import read_json


@pytest.mark.usefixtures("heard")
def test_ctrl_c_cancels_the_job_and_the_next_start_resumes(training, uninterrupted):
    training.submit()
    training.wait_for_step(20)
    training.snakemake.send_signal(signal.SIGINT)
    training.end(expected=1)
    training.wait_for_state("CANCELLED")
    training.again()
    check(training, uninterrupted)
    assert training.resumed_from()[0] >= 20


def test_a_terminated_snakemake_waits_for_its_job_and_the_next_start_loses_nothing(
    training, uninterrupted
):
    training.submit()
    training.wait_for_step(20)
    training.snakemake.send_signal(signal.SIGTERM)
    training.end(expected=None)
    training.again()
    check(training, uninterrupted)
    assert training.resumed_from() == []


def test_a_killed_and_restarted_snakemake_does_not_disturb_the_running_job(training, uninterrupted):
    training.submit()
    training.wait_for_step(10)
    os.killpg(training.snakemake.pid, signal.SIGKILL)
    training.snakemake.wait()
    training.again()
    check(training, uninterrupted)
    states = training.states()
    # The second job found the first one running and reported it; its retries found the result.
    assert states[0] == states[-1] == "COMPLETED"
    assert training.resumed_from() == []


def test_a_training_that_finished_without_snakemake_is_not_repeated(training, uninterrupted):
    training.submit()
    training.wait_for_step(10)
    os.killpg(training.snakemake.pid, signal.SIGKILL)
    training.snakemake.wait()
    training.wait_for_state("COMPLETED")
    finished = read_json(training.folder / "run.json")["finished"]
    training.again()
    check(training, uninterrupted)
    assert read_json(training.folder / "run.json")["finished"] == finished
