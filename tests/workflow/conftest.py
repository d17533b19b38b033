import pytest

from tests.workflow.running import Workflow, copy_workflow, session_folder, shared_workflow


@pytest.fixture
def untouched(tmp_path) -> Workflow:
    """A copy of the workflow in which nothing was run."""
    return copy_workflow(tmp_path)


@pytest.fixture(scope="session")
def just_finished(tmp_path_factory, worker_id) -> Workflow:
    """A copy of the workflow with the finished tiny run, from the URL list to the figures.

    All workers of pytest-xdist share it; tests read or copy it, but do not change it.
    """
    folder = session_folder(tmp_path_factory, worker_id) / "just_finished"
    return shared_workflow(folder, lambda workflow: workflow.ran("all"))


@pytest.fixture
def copied(just_finished, tmp_path) -> Workflow:
    """A copy of the workflow in which only `all` was run, for one test to change."""
    return just_finished.copied(tmp_path / "copied")


@pytest.fixture(scope="session")
def finished(just_finished, tmp_path_factory) -> Workflow:
    """A copy that several tests share; after each, nothing of `all` is left to be done."""
    return just_finished.copied(tmp_path_factory.mktemp("finished") / "workflow")
