import os
import shutil

import pytest

from tests.slurm.private_slurm import PrivateSlurm, SlurmError
from tests.slurm.training import CONFIG, SLOW_TERM, Training, made_in, spec_of, train_here
from tests.workflow.running import Workflow, session_folder, shared, shared_workflow
from workflow_scripts.common.files import read_json


@pytest.fixture(scope="session")
def start_slurm():
    """Return a function that starts a private Slurm, or fails the test with one sentence."""
    # Within a Slurm job, Snakemake would consider itself a part of that job.
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]

    def start(nodes: int):
        try:
            with PrivateSlurm(nodes) as running:
                yield running
        except SlurmError as error:
            pytest.fail(str(error), pytrace=False)

    return start


@pytest.fixture(scope="session")
def slurm(start_slurm):
    """A private Slurm with one node, which is stopped after the tests."""
    yield from start_slurm(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, worker_id) -> Workflow:
    """The inputs of a pre-training, made without Slurm; all workers share them."""

    def make(workflow: Workflow) -> None:
        shutil.copy(SLOW_TERM, workflow.folder)
        workflow.ran("one", "--until", "runs_table", config=CONFIG)
        inputs = read_json(spec_of(workflow))["inputs"]
        evaluation = f"{inputs['evaluation']}/manifest.parquet"
        workflow.ran(inputs["tokens"], evaluation, config=CONFIG)

    return shared_workflow(session_folder(tmp_path_factory, worker_id) / "prepared", make)


@pytest.fixture(scope="session")
def uninterrupted(prepared, tmp_path_factory, worker_id) -> dict[str, bytes]:
    """The files of the same training without interruption; all workers share them."""
    folder = session_folder(tmp_path_factory, worker_id) / "uninterrupted"
    return made_in(shared(folder, lambda new: train_here(prepared, new)))


@pytest.fixture
def training(slurm, prepared, tmp_path, request):
    """The training in a separate folder; a test may override its config."""
    config = getattr(request, "param", CONFIG)
    with Training(slurm, prepared, tmp_path / "workflow", config) as training:
        yield training
