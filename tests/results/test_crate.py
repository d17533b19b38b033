"""The exported crate conforms to its profile and links each figure to its runs.

Required properties: https://www.researchobject.org/workflow-run-crate/profiles/workflow_run_crate
"""

import hashlib
import json
import shutil

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import sha256
from workflow_scripts.results import crate


def record(run, objective, inputs, **changes):
    return {
        "run": run,
        "finished": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 60.0,
        "resumptions": [],
        "code": {"commit": "abc", "dirty": False, "digest": "12345678", "files": {}},
        "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "hardware": {"device": "cpu", "processes": 1},
        "inputs": inputs,
        "spec": {
            "kind": "cleaning" if "start" in inputs else "pretraining",
            "epochs": 2,
            "objective": {objective: 1.0},
            "optimizer": {"learning_rate": 0.001},
            "inputs": {
                "manifest": "manifest.parquet",
                "evaluation": "eval",
                "start": "elsewhere/pretraining/start/model.pt" if "start" in inputs else None,
            },
        },
    } | changes


@pytest.fixture
def results(tmp_path):
    """A finished experiment: a start model, and a run that cleans it and was resumed."""
    root = tmp_path / "results"
    manifest = hashlib.sha256(b"manifest").hexdigest()
    start = hashlib.sha256(b"start").hexdigest()
    runs = {
        "pretraining/start": (b"start", record("start", "mmcl", {"manifest": manifest})),
        "cleaning/cleaned": (
            b"cleaned",
            record(
                "cleaned", "ssl", {"manifest": manifest, "start": start},
                resumptions=[{"step": 1}],
                code={"commit": "def", "dirty": True, "digest": "87654321", "files": {}},
            ),
        ),
    }  # fmt: skip
    rows = []
    for place, (model, made) in runs.items():
        folder = root / place
        folder.mkdir(parents=True)
        (folder / "model.pt").write_bytes(model)
        (folder / "run.json").write_text(json.dumps(made))
        (folder / "spec.json").write_text("{}")
        (folder / "metrics.csv").write_text("run,epoch\n")
        kind, run = place.split("/")
        rows.append({"run": run, "kind": kind, "start": "start", "start_label": "MMCL",
                     "defence": "", "learning_rate": 0.001, "folder": place})  # fmt: skip
    experiment = root / "experiments" / "main"
    experiment.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(experiment / "runs.csv", index=False)
    (experiment / "scatter.png").write_bytes(b"figure")
    (experiment / "metrics.parquet").write_bytes(b"large")
    (root / "workflow").mkdir()
    (root / "workflow" / "config.json").write_text(json.dumps({"all": ["main"]}))
    return root


@pytest.fixture
def exported(results, tmp_path):
    """The crate's folder, and its entities by their id."""
    crate.main(["--results", str(results), "--output", f"{tmp_path}/crate"])
    return tmp_path / "crate", entities(tmp_path / "crate")


def entities(folder):
    graph = json.loads((folder / "ro-crate-metadata.json").read_text())["@graph"]
    assert len({entity["@id"] for entity in graph}) == len(graph)
    return {entity["@id"]: entity for entity in graph}


def ids(value):
    return {item["@id"] for item in (value if isinstance(value, list) else [value])}


def test_the_crate_has_the_properties_required_by_the_profile(exported):
    folder, graph = exported
    assert graph["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    root = graph["./"]
    assert all(root[name] for name in ("name", "description", "datePublished", "license"))
    assert ids(root["conformsTo"]) == set(crate.PROFILES)
    workflow = graph[root["mainEntity"]["@id"]]
    assert set(workflow["@type"]) == {"File", "SoftwareSourceCode", "ComputationalWorkflow"}
    assert graph[workflow["programmingLanguage"]["@id"]]["name"] == "Snakemake"
    assert workflow["@id"] in ids(root["hasPart"])
    actions = [entity for entity in graph.values() if entity["@type"] == "CreateAction"]
    assert ids(root["mentions"]) == {action["@id"] for action in actions}
    assert workflow["@id"] in {action["instrument"]["@id"] for action in actions}
    assert (folder / workflow["@id"]).is_file()


def test_every_reference_is_an_entity_and_every_file_is_unchanged(exported):
    folder, graph = exported
    for entity in graph.values():
        for value in entity.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dict):
                    assert item["@id"] in graph or item["@id"].startswith("https://"), item
        if "File" in entity["@type"] and not entity["@id"].startswith("ni:"):
            path = folder / entity["@id"]
            assert path.is_file(), entity["@id"]
            if "sha256" in entity:
                assert sha256(path) == entity["sha256"]
    assert (folder / "code/rules/results.smk").is_file()
    assert not list(folder.rglob("__pycache__"))


def test_a_model_produced_and_used_is_one_entity(exported):
    folder, graph = exported
    start, cleaned = graph["#run-start"], graph["#run-cleaned"]
    (model,) = ids(start["result"]) & ids(cleaned["object"])
    assert graph[model]["sha256"] == hashlib.sha256(b"start").hexdigest()
    assert graph[model]["contentSize"] == str(len(b"start"))
    assert graph[model]["name"].endswith("pretraining/start/model.pt")
    assert not list(folder.rglob("*.pt"))
    assert not list(folder.rglob("*.parquet"))
    assert "pretraining/start/spec.json" in ids(start["object"])
    assert {"pretraining/start/metrics.csv", "pretraining/start/run.json"} < ids(start["result"])


def test_models_taken_from_a_run_have_its_spec_as_input_and_their_metrics_as_result(
    results, tmp_path
):
    whole = results / "pretraining/start"
    rows = pd.read_csv(results / "experiments/main/runs.csv").to_dict("records")
    for epoch in (1, 2):
        taken = whole / f"epoch-{epoch}"
        taken.mkdir()
        for name in ("model.pt", "metrics.csv", "run.json"):
            shutil.copy(whole / name, taken / name)
        rows.append(
            rows[0] | {"run": f"start/{taken.name}", "folder": f"pretraining/start/{taken.name}"}
        )
    pd.DataFrame(rows).to_csv(results / "experiments/main/runs.csv", index=False)
    crate.export(results, tmp_path / "crate")
    graph = entities(tmp_path / "crate")
    for epoch in (1, 2):
        action = graph[f"#run-start/epoch-{epoch}"]
        named = [f"pretraining/start/epoch-{epoch}/{name}" for name in ("metrics.csv", "run.json")]
        assert "pretraining/start/spec.json" in ids(action["object"])
        assert set(named) < ids(action["result"])
        assert not set(named) & ids(action["object"])


def test_runs_of_different_code_versions_have_different_instruments(exported):
    _, graph = exported
    versions = [graph[graph[f"#run-{name}"]["instrument"]["@id"]] for name in ("start", "cleaned")]
    texts = [version["softwareVersion"] for version in versions]
    assert texts[0] == "commit abc, code digest 12345678"
    assert texts[1] == "commit def with uncommitted changes, code digest 87654321"
    assert "https://pypi.org/project/torch/2.14.1/" in ids(versions[0]["softwareRequirements"])


def test_a_resumed_run_has_an_end_time_but_no_start_time(exported):
    _, graph = exported
    assert graph["#run-start"]["startTime"] == "2026-01-02T03:03:05+00:00"
    assert graph["#run-start"]["endTime"] == graph["#run-cleaned"]["endTime"]
    assert "startTime" not in graph["#run-cleaned"]
    assert "resumed 1 time" in graph["#run-cleaned"]["description"]


def test_figures_and_the_config_belong_to_the_workflow_run(exported):
    _, graph = exported
    whole = graph["#workflow-run"]
    assert whole["object"] == {"@id": "workflow/config.json"}
    assert {"experiments/main/scatter.png", "experiments/main/runs.csv"} <= ids(whole["result"])


def test_an_unlisted_start_model_is_exported_with_the_runs_that_use_it(results, tmp_path):
    table = pd.read_csv(results / "experiments/main/runs.csv")
    table[table["kind"] == "cleaning"].to_csv(results / "experiments/main/runs.csv", index=False)
    crate.export(results, tmp_path / "crate")
    assert {"#run-start", "#run-cleaned"} < set(entities(tmp_path / "crate"))


def test_a_deleted_model_is_omitted(results, tmp_path):
    (results / "cleaning/cleaned/model.pt").unlink()
    crate.export(results, tmp_path / "crate")
    named = ids(entities(tmp_path / "crate")["#run-cleaned"]["result"])
    assert not any(identity.startswith("ni:") for identity in named)


def test_unfinished_results_are_not_exported(results, tmp_path):
    (results / "cleaning/cleaned/run.json").unlink()
    with pytest.raises(StepError, match=r"cleaned/run\.json does not exist; finish the runs"):
        crate.export(results, tmp_path / "crate")
    (results / "workflow/config.json").unlink()
    with pytest.raises(StepError, match="run the target `all` first"):
        crate.export(results, tmp_path / "crate")
    assert not (tmp_path / "crate").exists()


def test_the_crate_contains_no_secrets(results, tmp_path, monkeypatch):
    code = tmp_path / "code"
    (code / "workflow_scripts").mkdir(parents=True)
    (code / "profiles" / "mine").mkdir(parents=True)
    (code / "Snakefile").touch()
    for file in ("config.yaml", "profiles/mine/mine.yaml"):
        (code / file).write_text('sources: {x: {list: "https://me:s3cret@host/x?token=s3cret"}}\n')
    monkeypatch.setattr(crate, "FOLDER", code / "workflow_scripts")
    crate.export(results, tmp_path / "crate")
    texts = [file.read_text() for file in (tmp_path / "crate").rglob("*.yaml")]
    assert texts == ['sources: {x: {list: "https://***@host/x?token=***"}}\n'] * 2
