"""The targets `plan` and `preflight` before, during and after a real run."""

import csv

from tests.workflow.running import Workflow

RESULTS = "results/demo"


def _plan(workflow: Workflow) -> dict[str, dict[str, str]]:
    done = workflow.snakemake("plan")
    assert done.returncode == 0, done.stdout
    folder = workflow.folder / RESULTS / "workflow"
    assert (folder / "plan.md").read_text().strip() in done.stdout
    with (folder / "plan.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_a_single_experiment_is_planned_on_the_given_gpus(untouched):
    done = untouched.snakemake("plan_ablation_seed", "--resources", "gpu=3")
    assert done.returncode == 0, done.stdout
    assert "| ablation_seed |" in done.stdout
    assert "| main " not in done.stdout


def test_the_plan_counts_the_jobs_that_a_dry_run_counts(untouched):
    jobs = untouched.dry_run("all")
    plan = _plan(untouched)
    for rule in ("download", "usable", "poison", "captions", "pretraining", "cleaning"):
        assert (int(plan[rule]["jobs"]), plan[rule]["jobs_done"]) == (jobs[rule], "0")


def test_the_plan_reflects_finished_jobs(copied):
    plan = _plan(copied)
    for kind in ("pretraining", "cleaning"):
        done = len(list((copied.folder / RESULTS / kind).glob("*/run.json")))
        assert plan["all"][kind] == plan["all"][f"{kind}_done"] == str(done)
    assert plan["all"]["jobs_done"] == plan["all"]["jobs"]
    assert float(plan["all"]["core_hours_missing"]) == float(plan["all"]["bytes_missing"]) == 0
    text = (copied.folder / RESULTS / "workflow/plan.md").read_text()
    assert "measured" in text
    assert "GPU" not in text
    run = next((copied.folder / RESULTS / "cleaning").glob("*/run.json"))
    run.unlink()
    assert int(_plan(copied)["all"]["cleaning_done"]) == int(plan["all"]["cleaning"]) - 1


def test_the_planned_disk_space_matches_the_files(copied):
    there = sum(
        file.stat().st_size
        for pattern in ("*/*/model.pt", "pretraining/*/optimizer.pt", "captions/**/*.npy")
        for file in (copied.folder / RESULTS).glob(pattern)
    )
    plan = _plan(copied)
    reckoned = sum(float(plan[rule]["bytes"]) for rule in ("pretraining", "cleaning", "captions"))
    assert 0.99 < reckoned / there < 1.01


def test_preflight_passes_or_reports_everything_that_is_missing(untouched):
    ready = untouched.snakemake("preflight")
    assert ready.returncode == 0, ready.stdout
    assert ready.stdout.count("\nok  ") >= 5
    lacking = {"evaluations": {"demo": {"folder": "nowhere"}}, "wordnet": "nothing"}
    refused = untouched.snakemake("preflight", config=lacking)
    assert refused.returncode != 0
    for sentence in ("'evaluations.demo.folder' is 'nowhere'", "nothing/corpora/wordnet"):
        assert sentence in refused.stdout
    assert "Traceback" not in refused.stdout
