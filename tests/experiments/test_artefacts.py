"""Artefacts are names in the config, ids in the plan and paths in the specs of steps."""

import copy

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.artefacts import needed
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.layout import artefact_inputs, run_inputs, written_spec
from workflow_scripts.experiments.measures import measure_inputs, written_measures
from workflow_scripts.experiments.references import references
from workflow_scripts.experiments.workload import Workload

MAKER = """
def make(given, *, of: str | None = None, size: int = 3): ...
"""
TRIGGER = """
class Trigger:
    def __init__(self, image_size, seed, patch: str | None = None): ...
"""


@pytest.fixture
def mine(raw_config, tmp_path, monkeypatch):
    """Return a function that overrides the paper's config with declarations and expands it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "maker.py").write_text(MAKER)
    (tmp_path / "trigger.py").write_text(TRIGGER)

    def laid_over(artefacts, start=None, experiment=None, **measures):
        config = copy.deepcopy(raw_config)
        config["artefacts"] |= artefacts
        config["measures"] |= measures
        own = {"label": "Mine", "dataset": "cc3m", "attack.poisoned": 1500}
        config["starts"]["mine"] = own | (start or {})
        config["experiments"]["mine"] = {"start": ["mine"], **(experiment or {})}
        check_config(config)
        return config, expand(config)

    return laid_over


def _run_of(plan, name="mine"):
    return plan.runs[plan.experiments[name][0]["run"]]


def test_without_a_reference_an_artefact_changes_no_id(mine):
    _, before = mine({})
    _, after = mine({"unused": {"make": "maker.py", "pairs": "dataset"}})
    assert before.runs.keys() == after.runs.keys()
    assert before.attacks.keys() == after.attacks.keys()


def test_an_option_holds_the_id_in_the_plan_and_the_path_in_the_spec(mine):
    patch = {"make": "maker.py", "pairs": "dataset", "size": 5}
    trigger = {"attack.trigger": {"name": "trigger.py", "patch": {"artefact": "patch"}}}
    config, plan = mine({"patch": patch}, trigger)
    run = _run_of(plan)
    (name,) = needed(plan.artefacts.specs, run)
    assert run["attack"]["trigger"]["patch"] == {"artefact": name}
    path = f"results/artefacts/{name}/values.safetensors"
    run_id = plan.experiments["mine"][0]["run"]
    for kind, one in (("attacks", run["attack_id"]), ("pretraining", run_id)):
        spec = written_spec(config, plan, kind, one)
        assert spec.get("attack", spec)["trigger"]["patch"] == path
    assert spec["inputs"]["artefacts"] == [path]
    written = written_spec(config, plan, "artefacts", name)
    assert written["manifest"] == f"results/datasets/{run['dataset']}/manifest.parquet"
    assert written["options"] == {"size": 5}


def test_settings_of_an_artefact_enter_the_ids_of_everything_made_with_it(mine):
    trigger = {"attack.trigger": {"name": "trigger.py", "patch": {"artefact": "patch"}}}

    def ids(**declared):
        _, plan = mine({"patch": {"make": "maker.py", "pairs": "dataset", **declared}}, trigger)
        run = _run_of(plan)
        return (
            run["attack_id"],
            plan.experiments["mine"][0]["run"],
            *needed(plan.artefacts.specs, run),
        )

    usual = ids()
    assert ids(size=3, seed=0, model=None) == usual, "defaults written out"
    for other in (ids(size=4), ids(seed=1), ids(model={"start": "cc3m_mmcl"})):
        assert all(a != b for a, b in zip(usual, other, strict=True))


def test_start_and_pairs_are_those_of_the_user(mine):
    both = {"start": ["cc3m_mmcl", "cc3m_mmcl_ssl"], "artefacts": ["dao", "clean_embeddings"]}
    _, plan = mine({}, experiment=both)
    rows = plan.reports["mine"]
    assert [row["artefact"] for row in rows] == ["dao", "clean_embeddings"] * 2
    for row in rows:
        spec = plan.artefacts.specs[row["id"]]
        attack = plan.runs[plan.models[row["start"]]["run"]]["attack_id"]
        assert spec["model"] == {"start": row["start"]}
        if row["artefact"] == "dao":
            assert spec["pairs"] == {"attacks": attack}
        else:
            assert plan.splits[spec["pairs"]["splits"]]["attack_id"] == attack


def test_detectors_of_one_model_share_its_embeddings(mine):
    _, plan = mine({}, experiment={"start": ["cc3m_mmcl"], "artefacts": ["dao", "slof"]})
    dao, slof = (plan.artefacts.specs[row["id"]] for row in plan.reports["mine"])
    assert dao["options"] == slof["options"]
    name = dao["options"]["embeddings"]["artefact"]
    start, attack = dao["model"]["start"], dao["pairs"]["attacks"]
    files = [f"attacks/{attack}/manifest.parquet", f"pretraining/{start}/model.pt"]
    assert artefact_inputs(plan, name) == files
    read = artefact_inputs(plan, plan.reports["mine"][0]["id"])
    assert read == [*files, f"artefacts/{name}/values.safetensors"]


def test_a_filter_is_a_stage_of_its_own_before_captions(mine):
    filtered = {"filter": {"scores": {"artefact": "dao_on_cc3m_mmcl"}, "drop_highest": 0.01}}
    _, plain = mine({})
    config, plan = mine({}, filtered)
    run = _run_of(plan)
    assert run["attack_id"] == _run_of(plain)["attack_id"]
    name = run["filter_id"]
    inputs = run_inputs(plan, plan.experiments["mine"][0]["run"])
    assert inputs["manifest"] == f"filters/{name}/manifest.parquet"
    assert inputs["tokens"] == f"captions/{run['captions_id']}/filters/{name}/tokens.npy"
    assert (
        not {"filter", "filter_id"}
        & written_spec(config, plan, "pretraining", plan.experiments["mine"][0]["run"]).keys()
    )


def test_a_measure_reads_an_artefact_of_the_model_that_it_measures(mine, tmp_path):
    (tmp_path / "measure.py").write_text(
        "def measure(encoder, context, *, near: str, k: int = 3): ...\n"
    )
    declared = {"measure": "measure.py", "near": {"artefact": "clean_embeddings"}}
    config, plan = mine(
        {}, experiment={"start": ["cc3m_mmcl"], "measures": ["near"]}, near=declared
    )
    (row,) = plan.measured["mine"]
    (name,) = references(plan.measures[row["id"]]["options"])
    assert plan.artefacts.specs[name]["model"] == {"start": row["start"]}
    path = f"artefacts/{name}/values.safetensors"
    assert path in measure_inputs(plan, row["id"])
    written = dict(written_measures(config, plan))[row["id"]]
    assert written["options"] == {"near": f"results/{path}"}


def test_the_plan_counts_the_jobs_that_a_filter_depends_on(mine, tmp_path):
    filtered = {"filter": {"scores": {"artefact": "dao_on_cc3m_mmcl"}, "drop_highest": 0.25}}
    config, plan = mine({}, filtered)
    work = Workload(config, plan, tmp_path)
    jobs = work.jobs(["mine"])
    models = {job.name for job in jobs if job.rule == "pretraining"}
    (scores,) = references(_run_of(plan)["filter"])
    assert models == {
        f"pretraining/{plan.artefacts.specs[scores]['model']['start']}",
        plan.experiments["mine"][0]["folder"],
    }
    made = sorted(job.name.partition("-")[0] for job in jobs if job.rule == "artefact")
    assert made == ["dao", "embeddings"]
    captioned = {job.name.split("/")[1]: job.bytes for job in jobs if job.rule == "captions"}
    assert captioned["filters"] == captioned["attacks"] < 0.01 * captioned["datasets"]


def test_errors_of_a_start_that_an_artefact_needs_are_reported(mine):
    filtered = {"filter": {"scores": {"artefact": "scores"}, "drop_highest": 0.1}}
    filtered |= {"dataset": "cc6m", "attack.poisoned": 3000}
    declared = {"make": "dao", "model": {"start": "cc6m_mmcl"}, "pairs": "attack"}
    config, _ = mine({"scores": declared}, filtered)
    config["starts"]["cc6m_mmcl"]["attack.target"] = "bananna"
    with pytest.raises(StepError, match=r"starts\.cc6m_mmcl\.attack\.target"):
        check_config(config, ["mine"])


@pytest.mark.parametrize(
    ("declared", "start", "sentence"),
    [
        (
            {"model": "start", "pairs": "dataset"},
            {"attack.trigger": {"name": "trigger.py", "patch": {"artefact": "patch"}}},
            "starts.mine.attack.trigger' needs 'artefacts.patch', but its model .* trained later",
        ),
        (
            {"pairs": "attack"},
            {"attack.trigger": {"name": "trigger.py", "patch": {"artefact": "patch"}}},
            r"its pairs \('pairs: attack'\) are made later",
        ),
        (
            {"model": {"start": "mine"}, "pairs": "attack"},
            {"filter": {"scores": {"artefact": "patch"}, "drop_highest": 0.1}},
            "made with the model of 'starts.mine', which is trained later",
        ),
        (
            {"of": {"artefact": "patch"}},
            {"attack.trigger": {"name": "trigger.py", "patch": {"artefact": "patch"}}},
            "'artefacts.patch' depends on itself",
        ),
    ],
)
def test_depending_on_something_made_later_is_one_sentence(mine, declared, start, sentence):
    with pytest.raises(StepError, match=sentence):
        mine({"patch": {"make": "maker.py", **declared}}, start)
