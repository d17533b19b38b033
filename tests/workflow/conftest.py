import shutil

import pytest

from tests.workflow.running import Workflow, copy_workflow


@pytest.fixture
def untouched(tmp_path) -> Workflow:
    """A copy of the workflow in which nothing has been run."""
    return copy_workflow(tmp_path)


@pytest.fixture(scope="session")
def just_finished(tmp_path_factory) -> Workflow:
    """A copy of the workflow with the tiny run done, from the URL list to the figures."""
    workflow = copy_workflow(tmp_path_factory.mktemp("just_finished"))
    done = workflow.snakemake("all")
    assert done.returncode == 0, done.stdout
    return workflow


@pytest.fixture(scope="session")
def finished(just_finished, tmp_path_factory) -> Workflow:
    """The same, for tests that run something in it: nothing but `all` has been run in the other."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(just_finished.folder, folder, symlinks=True, dirs_exist_ok=True)
    return Workflow(folder)
