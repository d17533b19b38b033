"""A training that Slurm interrupts for any reason gives the same result as an uninterrupted one."""

import signal
import time

import pytest

from tests.slurm.training import CONFIG, check, check_restarted

TWO_MINUTES = CONFIG | {"cluster": {**CONFIG["cluster"], "max_runtime": 2}}


def test_a_cancelled_training_is_resubmitted_and_resumes(training, uninterrupted, slurm):
    training.submit()
    training.wait_for_step(5)
    slurm.run("scancel", training.jobs()[0]["JobId"])
    training.wait_for_state("CANCELLED")
    training.speed_up()
    training.end()
    check(training, uninterrupted)
    assert training.states() == ["CANCELLED", "COMPLETED"]
    assert training.resumed_from()[0] >= 5


def test_a_training_that_exceeds_its_time_limit_is_resubmitted_and_resumes(training, uninterrupted):
    training.submit()
    training.wait_for_step(5)
    training.signal_trainers(signal.SIGSTOP)
    training.limit(1)
    training.wait_for_state("TIMEOUT")
    training.speed_up()
    training.end()
    check(training, uninterrupted)
    assert training.states() == ["TIMEOUT", "COMPLETED"]
    assert training.resumed_from()[0] >= 5


@pytest.mark.parametrize("training", [TWO_MINUTES], indirect=True)
def test_a_training_stops_before_its_time_limit_and_resumes(training, uninterrupted):
    training.submit()
    training.wait_for_step(1)
    training.signal_trainers(signal.SIGSTOP)
    # The trainer uses half of the time that it had left when it started. On a busy machine, the
    # other half may be too short for this test, and the limit too short for the second job.
    training.limit(10)
    time.sleep(60)
    training.signal_trainers(signal.SIGCONT)
    training.wait_for_state("FAILED")
    assert "stopped by the time limit of 0." in training.printed()
    training.wait(lambda: len(training.jobs()) == 2, "the second job")
    training.limit(10)
    training.speed_up()
    training.end()
    check(training, uninterrupted)
    assert training.states() == ["FAILED", "COMPLETED"]


def test_a_training_is_restarted_by_slurm_after_its_node_failed(training, uninterrupted, slurm):
    training.submit()
    training.wait_for_step(5)
    slurm.fail_node("node1")
    training.wait(lambda: training.jobs()[0]["Restarts"] == "1", "the requeueing")
    slurm.start_node("node1")
    training.speed_up()
    training.end()
    check(training, uninterrupted)
    check_restarted(training)
    assert training.resumed_from()[0] >= 5


def test_a_preempted_training_waits_and_resumes(training, uninterrupted, slurm):
    training.submit()
    training.wait_for_step(5)
    urgent = ("--partition=urgent", "--gpus=8", "--mem=100", "--time=1", "--output=/dev/null")
    slurm.run("sbatch", *urgent, "--nodes=1", "--wrap=sleep 3")
    training.wait(lambda: training.jobs()[0]["Restarts"] == "1", "the requeueing")
    training.speed_up()
    training.end()
    check(training, uninterrupted)
    (job,) = training.jobs()
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1")
    assert training.resumed_from()[0] >= 5
