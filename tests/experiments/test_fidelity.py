"""Each switch documented in docs/fidelity.md exists, and config.yaml agrees with the page."""

import re

import pytest
import yaml

from tests.experiments.conftest import ROOT
from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand

PAGE = (ROOT / "docs/fidelity.md").read_text()


def table():
    """Return the cells of each row of the page's table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def switches():
    """Yield the dotted key, the value and the cell of each row that documents a switch."""
    for *_, cell in table():
        if not cell.startswith(("none", "as published")):
            ((key, value),) = yaml.safe_load(re.search("`(.+?)`", cell)[1]).items()
            yield key, value, cell


def place_of(config, dotted):
    """Return the mapping that contains the value of a dotted key of the page, and its key there."""
    path = dotted.split(".")
    # Below starts and defences, the keys of the config are dotted themselves.
    depth = 2 if path[0] in ("starts", "defences") else len(path) - 1
    for part in path[:depth]:
        config = config[part]
    return config, ".".join(path[depth:])


def test_every_row_has_all_columns():
    assert len(table()) > 30
    assert {len(row) for row in table()} == {4}
    assert all(cell for row in table() for cell in row)


@pytest.mark.parametrize(("key", "value", "cell"), switches())
def test_a_documented_switch_is_accepted(raw_config, key, value, cell):
    place, name = place_of(raw_config, key)
    if ", as published" in cell:
        assert place[name] == value, "config.yaml does not do what the page says"
    place[name] = value
    check_config(raw_config)
    expand(raw_config)


def test_a_switch_that_does_not_exist_would_be_refused(raw_config):
    place, name = place_of(raw_config, "cleaning.schedule.shift_epoch")
    place[name] = 1
    with pytest.raises(StepError, match="shift_epoch"):
        check_config(raw_config)
