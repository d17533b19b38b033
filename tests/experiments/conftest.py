from pathlib import Path

import pytest
import yaml

from workflow_scripts.experiments.config import check_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def raw_config():
    """The paper's config as it is in the file."""
    return yaml.safe_load((ROOT / "config.yaml").read_text())


@pytest.fixture
def config(raw_config):
    """The paper's config, checked and with defaults filled in."""
    check_config(raw_config)
    return raw_config
