"""Names of folders with spaces, quotes and `$(...)` work and are never executed by a shell."""

import re

import pytest
from PIL import Image

from tests.workflow.running import ROOT, copy_workflow
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import read_json
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.folders import check_folders

ODD = """it's "odd" $(touch pwned)`touch pwned` ü;&|*"""


def test_a_folder_of_any_name_is_never_run_by_a_shell(tmp_path, monkeypatch):
    (tmp_path / ODD).mkdir()
    workflow = copy_workflow(tmp_path / ODD)
    for name in ("apple", "banana"):
        (workflow.folder / ODD / "classes" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(workflow.folder / ODD / "classes" / name / "image.png")
    results = f"{ODD}/results"
    config = {
        "pathvars": {
            "results": results,
            "logs": f"{results}/logs",
            "benchmarks": f"{results}/benchmarks",
        },
        "evaluations": {"demo": {"folder": f"{ODD}/classes"}},
        "wordnet": f"{ODD}/nltk_data",
    }
    (workflow.folder / ODD / "nltk_data").symlink_to(workflow.folder / "nltk_data")
    planned = workflow.snakemake("plan_main", config=config)
    assert planned.returncode == 0, planned.stdout
    checked = workflow.snakemake("preflight_main", config=config)
    assert f"ok      WordNet is installed in {ODD}/nltk_data" in checked.stdout
    written = workflow.folder / results
    monkeypatch.chdir(workflow.folder)
    (evaluation,) = expand(read_json(written / "workflow/config.json")).data.evaluations
    targets = [
        f"{results}/evaluation/{evaluation}/manifest.parquet",
        f"{results}/workflow/runs/main-00000000.csv",
    ]
    done = workflow.snakemake(*targets, config=config)
    assert done.returncode == 0, done.stdout
    classes = read_json(written / f"evaluation/{evaluation}/classes.json")["classes"]
    assert classes == ["apple", "banana"]
    assert (written / "workflow/runs/main-00000000.csv").read_text().startswith("run,folder,")
    assert not list(tmp_path.rglob("pwned"))


def test_everything_in_a_shell_command_is_quoted():
    # Commands and words of ours, digits.
    ours = {"params.serve", "params.draw", "params.option", "wildcards.part"}
    for file in (ROOT / "rules").glob("*.smk"):
        commands = re.findall(r"^    shell:\n((?:        .*\n)+)", file.read_text(), re.M)
        used = re.findall(r"\{((?:input|output|log|params|wildcards)[^}]*)\}", "".join(commands))
        assert [name for name in used if not name.endswith(":q") and name not in ours] == [], file


@pytest.mark.parametrize("name", ["", "~/results", "-x", "a{b}", "<a>", "a\nb", "results/", "./a"])
def test_a_folder_that_snakemake_cannot_handle_is_refused(name):
    with pytest.raises(StepError, match=r"pathvars\.results"):
        check_folders({"results": name}, "/")


def test_the_workflows_own_folder_is_checked_too():
    with pytest.raises(StepError, match="the folder of the workflow"):
        check_folders({"results": "results", "logs": "<results>/logs"}, "/home/{me}")
