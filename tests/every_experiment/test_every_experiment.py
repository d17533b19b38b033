"""Runs each declared experiment at the smallest size that exercises all of its code."""

import pandas as pd
import pytest
import yaml

from tests.workflow.running import ROOT, copy_workflow

SMALLEST = yaml.safe_load((ROOT / "tests/every_experiment/smallest.yaml").read_text())
DECLARED = yaml.safe_load((ROOT / "config.yaml").read_text())["experiments"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    workflow = copy_workflow(tmp_path_factory.mktemp("every"))
    done = workflow.snakemake("all_experiments", config=SMALLEST)
    assert done.returncode == 0, done.stdout
    return workflow.folder / "results/demo"


@pytest.mark.parametrize("name", DECLARED)
def test_an_experiment_makes_its_figures_and_tables(results, name):
    folder = results / "experiments" / name
    metrics = pd.read_parquet(folder / "metrics.parquet")
    for figure in DECLARED[name].get("figures", {}):
        for end in ("png", "pdf", "csv"):
            assert (folder / f"{figure}.{end}").stat().st_size > 0
    if DECLARED[name].get("artefacts"):
        reports = pd.read_csv(folder / "artefacts.csv")
        assert set(reports["artefact"]) == set(DECLARED[name]["artefacts"])
    if DECLARED[name].get("defence"):
        best = pd.read_csv(folder / "best.csv")
        assert best["runs"].gt(0).all()
        cleaned = metrics[metrics["kind"] == "cleaning"]
        assert cleaned[["heldout_mmcl", "heldout_ssl"]].notna().all(axis=None)


def test_runs_shared_by_experiments_are_trained_once(results):
    tables = {p.parent.name: pd.read_csv(p) for p in results.glob("experiments/*/runs.csv")}
    listed = pd.concat(tables.values())["run"]
    done = {path.parent.name for path in results.glob("*/*/run.json")}
    assert listed.nunique() < len(listed)
    assert set(listed) <= done
    # Besides those, only models that a start continues from, and that of the pseudo-labels.
    assert len(done - set(listed)) <= 2


def test_all_models_of_measures_of_models_are_measured(results):
    folder = results / "experiments/measures_of_models"
    table, runs = pd.read_csv(folder / "measures.csv"), pd.read_csv(folder / "runs.csv")
    assert set(runs["kind"]) == {"pretraining", "baseline", "cleaning"}
    counts = table.groupby("measure")["run"].nunique()
    assert set(counts.index) == {"yellow", "retrieval", "probe", "geometry", "decree"}
    assert (counts == len(runs)).all()
    assert (folder / "measures.html").read_text().count("<table>") == len(counts)
