"""A training on two nodes equals one on a single node, also after a node failure."""

import os
import signal

import pytest

from tests.slurm.training import CONFIG, Training, check, check_restarted, made_in, train_here
from workflow_scripts.common.files import read_json

TWO_NODES = CONFIG | {
    "resources": {"pretraining": {"threads": 3, "mem_mb": 3000, "runtime": 9, "gpu": 2, "nodes": 2}}
}


@pytest.fixture(scope="module")
def two_nodes(start_slurm):
    """A private Slurm with two nodes."""
    yield from start_slurm(2)


@pytest.fixture(scope="module")
def on_one_node(prepared, tmp_path_factory):
    """The files of the same training with four processes on one node, each with one thread."""
    folder = tmp_path_factory.mktemp("four")
    train_here(prepared, folder, "--processes", "4", "--device", "cpu")
    return made_in(folder)


@pytest.fixture
def training(two_nodes, prepared, tmp_path):
    with Training(two_nodes, prepared, tmp_path / "workflow", TWO_NODES) as training:
        yield training


def test_processes_on_two_nodes_train_like_those_on_one(training, on_one_node):
    training.speed_up()
    training.submit()
    training.end()
    check(training, on_one_node)
    (job,) = training.jobs()
    assert (job["JobState"], job["NumNodes"]) == ("COMPLETED", "2")
    assert job["TresPerNode"].strip() == "gres:gpu:2"
    hardware = read_json(training.folder / "run.json")["hardware"]
    assert (hardware["processes"], hardware["nodes"], hardware["threads"]) == (4, 2, 1)


def test_a_process_that_dies_stops_the_job_on_both_nodes_and_the_next_one_resumes(
    training, on_one_node
):
    training.submit()
    training.wait_for_step(5)
    os.kill(max(training.trainers()), signal.SIGKILL)
    training.wait_for_state("FAILED", seconds=60)
    training.speed_up()
    training.end()
    check(training, on_one_node)
    assert training.states() == ["FAILED", "COMPLETED"]
    assert training.resumed_from()[0] >= 5


def test_a_job_whose_node_failed_resumes_when_both_nodes_are_up_again(
    training, on_one_node, two_nodes
):
    training.submit()
    training.wait_for_step(5)
    two_nodes.fail_node("node2")
    training.wait(lambda: training.jobs()[0]["Restarts"] == "1", "the requeueing")
    two_nodes.start_node("node2")
    training.speed_up()
    training.end()
    check(training, on_one_node)
    check_restarted(training)
    assert training.resumed_from()[0] >= 5
