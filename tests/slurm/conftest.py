import os

import pytest

from tests.slurm.private_slurm import PrivateSlurm, SlurmError


@pytest.fixture(scope="session")
def slurm():
    """A private Slurm of one node, which ends with the tests."""
    # Snakemake in a Slurm job would take itself for a part of it.
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        del os.environ[name]
    try:
        with PrivateSlurm() as running:
            yield running
    except SlurmError as error:
        pytest.fail(str(error), pytrace=False)
