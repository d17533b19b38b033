"""Small demo data, generated once for all tests of the demo."""

from pathlib import Path

import pytest

from workflow_scripts.demo.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "world"
    make_world(seed=0, pairs=300, evaluation=80, image_size=32, workers=1, output=folder)
    return folder
