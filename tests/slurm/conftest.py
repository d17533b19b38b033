import os

import pytest

from tests.slurm.private_slurm import PrivateSlurm, SlurmError
from tests.slurm.training import CONFIG, Training, spec_of, train_here
from tests.workflow.running import Workflow, copy_workflow
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
def prepared(tmp_path_factory) -> Workflow:
    """The inputs of a pre-training, made without Slurm."""
    workflow = copy_workflow(tmp_path_factory.mktemp("prepared"))
    specs = workflow.snakemake("one", "--until", "runs_table", config=CONFIG)
    assert specs.returncode == 0, specs.stdout
    inputs = read_json(spec_of(workflow))["inputs"]
    made = workflow.snakemake(
        inputs["tokens"], f"{inputs['evaluation']}/manifest.parquet", config=CONFIG
    )
    assert made.returncode == 0, made.stdout
    return workflow


@pytest.fixture(scope="session")
def uninterrupted(prepared) -> dict[str, bytes]:
    """The files of the same training without interruption."""
    return train_here(prepared, "uninterrupted")


@pytest.fixture
def training(slurm, prepared, tmp_path, request):
    """The training in a separate folder; a test may override its config."""
    config = getattr(request, "param", CONFIG)
    with Training(slurm, prepared, tmp_path / "workflow", config) as training:
        yield training
