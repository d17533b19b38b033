"""The written config is complete for steps, and without secrets for other users."""

import stat
from pathlib import Path

import pytest
import yaml

from workflow_scripts.common.files import read_json
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.specs import write_specs

CONFIG = Path(__file__).parents[2] / "config.yaml"
URL = "https://me:s3cret@host.org/list.tsv?token=s3cret"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files that the workflow writes for the paper's config; tests only read them."""
    folder, config = tmp_path_factory.mktemp("results"), yaml.safe_load(CONFIG.read_text())
    config["pathvars"]["results"] = str(folder)
    config["sources"]["cc3m"]["list"] = URL
    check_config(config)
    write_specs(config, expand(config), folder / "workflow")
    return folder / "workflow"


def test_secrets_are_only_in_files_for_steps_that_only_this_user_can_read(written):
    with_secret = [f for f in written.rglob("*") if f.is_file() and "s3cret" in f.read_text()]
    assert {file.relative_to(written).parts[0] for file in with_secret} == {"arguments"}
    for file in with_secret:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"--list={URL}" in "".join(f.read_text() for f in with_secret if f.suffix == ".txt")
    shown = read_json(written / "config.json")
    assert shown["sources"]["cc3m"]["list"] == "https://***@host.org/list.tsv?token=***"


def test_the_ids_of_a_plan_follow_from_the_written_config(written):
    config = read_json(written / "arguments" / "config.json")
    lists = {file.stem for file in (written / "arguments" / "url_list").glob("*.txt")}
    assert lists == set(expand(config).data.lists)


def test_files_without_secrets_are_readable_by_everybody(written):
    specs = list((written / "specs").rglob("*.json"))
    assert specs
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o044 == 0o044 for file in specs)
