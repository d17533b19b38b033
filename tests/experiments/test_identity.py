"""Which changes rename a run, and which do not."""

import copy
import os

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.finished import finished_with_another_evaluation
from workflow_scripts.experiments.identity import normalized
from workflow_scripts.experiments.layout import (
    model_before,
    run_inputs,
    share_of_training,
    step_arguments,
    written_spec,
)
from workflow_scripts.experiments.own_inputs import OwnInputs
from workflow_scripts.experiments.resources import rule_resources


@pytest.fixture
def config(config):
    """The paper's config with its main experiments only."""
    kept = ("main", "pretraining_dynamics")
    config["experiments"] = {name: config["experiments"][name] for name in kept}
    return config


def _ids(config):
    plan = expand(config)
    return {*plan.runs, *plan.models, *plan.attacks, *plan.splits, *plan.data.sources}


def _changed(config, place, value):
    config = copy.deepcopy(config)
    *path, last = place.split("/")
    node = config
    for key in path:
        node = node[key]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("pretraining/objective", {"mmcl": 1}),
        ("pretraining/objective", {"mmcl": {"weight": 1.0}}),
        ("starts/cc6m_mmcl_ssl/objective", {"ssl": 1, "mmcl": 1}),
        ("pretraining/optimizer", {"eps": 1e-8, "learning_rate": 1e-3, "betas": [0.9, 0.999],
                                   "weight_decay": 0.1, "decay_on": "published"}),
        ("pretraining/attack/trigger", {"patch_size": 16, "name": "random"}),
        ("pretraining/attack/templates", "openai"),
        ("pretraining/a_new_key", None),
        ("pretraining/model/another", None),
        ("cleaning/data/novelty", None),
        ("download/threads_per_process", 32),
        ("download/timeout", 20),
        ("wordnet", "elsewhere"),
        ("execution/evaluation_batch_size", 8),
        ("pathvars/results", "elsewhere"),
    ],
)  # fmt: skip
def test_spelling_neutral_keys_and_execution_settings_rename_nothing(config, place, value):
    assert _ids(_changed(config, place, value)) == _ids(config)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("pretraining/objective", {"mmcl": {"weight": 1.0}}),
        ("pretraining/attack/trigger", {"patch_size": 16, "name": "random"}),
    ],
)
def test_a_run_resumes_after_another_spelling(config, place, value):
    specs = []
    for each in (config, _changed(config, place, value)):
        plan = expand(each)
        run = plan.experiments["main"][0]["run"]
        specs.append(written_spec(each, plan, "pretraining", run))
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("download/jpeg_quality", 90, "sources"),
        ("download/min_size", 6, "sources"),
        ("image_size", 192, "sources"),
        ("captions/seed", 1, "runs"),
        ("pretraining/attack/templates", "simple", "attacks"),
        ("pretraining/attack/trigger", {"name": "random", "patch_size": 8}, "attacks"),
        ("pretraining/joint_statistics", False, "runs"),
        ("evaluations/imagenet/templates", "mine.json", "runs"),
    ],
)
def test_settings_that_affect_bytes_enter_ids(config, place, value, what):
    before, after = (expand(c) for c in (config, _changed(config, place, value)))
    ids = [getattr(plan.data if what == "sources" else plan, what) for plan in (before, after)]
    assert not set(ids[0]) & set(ids[1])


def test_another_evaluation_set_leaves_the_attacks_as_they_are(config):
    other = _changed(config, "evaluations/imagenet/templates", "mine.json")
    assert set(expand(other).attacks) == set(expand(config).attacks)


def test_a_changed_minimum_size_reuses_the_downloads(config):
    before, after = (expand(c).data for c in (config, _changed(config, "download/min_size", 9)))
    assert before.shards == after.shards
    assert not set(before.sources) & set(after.sources)


def test_a_list_of_known_digest_is_the_same_wherever_it_is(config):
    config["sources"]["cc12m"]["sha256"] = "0" * 64
    moved = _changed(config, "sources/cc12m/list", "data/cc12m.tsv")
    assert _ids(moved) == _ids(config)


def test_a_password_in_a_url_is_in_no_spec(config):
    config["sources"]["cc12m"]["list"] = "https://me:secret@example.org/list.tsv"
    data = expand(config).data
    assert "secret" not in str(data.lists)
    assert "https://example.org/list.tsv" in str(data.lists)


def test_own_files_are_identified_by_content_even_after_they_were_deleted(tmp_path):
    memory, folder = tmp_path / "memory.json", tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a/1.png").write_bytes(b"one")
    inputs = OwnInputs(memory)
    first = inputs.fingerprint(str(folder))
    inputs.save()
    os.utime(folder / "a/1.png", (1, 1))
    (folder / "a/.DS_Store").touch()
    assert OwnInputs(memory).fingerprint(str(folder)) == first
    (folder / "a/1.png").write_bytes(b"two")
    assert OwnInputs(memory).fingerprint(str(folder)) != first
    assert OwnInputs(memory, trusted=True).fingerprint(str(folder)) == first
    (folder / "a/1.png").rename(folder / "a/2.png")
    assert OwnInputs(memory).fingerprint(str(folder)) != first
    folder.rename(tmp_path / "moved")
    assert OwnInputs(memory).fingerprint(str(folder)) == first
    assert "nowhere" in OwnInputs(memory).fingerprint("nowhere")


def test_an_image_that_a_trigger_blends_in_is_identified_by_content(config, tmp_path):
    def ids(path):
        trigger = {"name": "image_blend", "file": str(path)}
        changed = _changed(config, "pretraining/attack/trigger", trigger)
        plan = expand(changed, OwnInputs(tmp_path / "memory.json"))
        assert {spec["trigger"].get("file") for spec in plan.attacks.values()} == {str(path)}
        return {*plan.runs, *plan.models, *plan.attacks, *plan.splits}

    (tmp_path / "a.png").write_bytes(b"one")
    first = ids(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    assert ids(tmp_path / "b.png") == first
    (tmp_path / "b.png").write_bytes(b"two")
    assert not ids(tmp_path / "b.png") & first


def test_a_start_names_the_epoch_that_is_cleaned(config):
    del config["experiments"]["pretraining_dynamics"]
    config["experiments"]["main"] |= {"start": ["cc3m_mmcl"], "defence": ["cleanclip"]}
    config["starts"]["cc3m_mmcl"].pop("start_epoch", None)
    last = expand(config)
    config["starts"]["cc3m_mmcl"]["start_epoch"] = 21
    plan = expand(config)
    (model,) = plan.models
    run = plan.models[model]["run"]
    assert model == f"{run}/epoch-21"
    assert {run} == set(last.models), "the training is the same one"
    rows = plan.experiments["main"]
    assert rows[0] | {"start": "", "folder": ""} == (
        last.experiments["main"][0] | {"start": "", "folder": ""}
    )
    assert rows[0]["folder"] == f"pretraining/{model}"
    cleaned = [row["run"] for row in rows[1:]]
    assert run_inputs(plan, cleaned[0])["start"] == f"pretraining/{model}/model.pt"
    assert not set(cleaned) & {row["run"] for row in last.experiments["main"]}
    config["starts"]["cc3m_mmcl"]["start_epoch"] = 64
    assert list(expand(config).models) == list(last.models)
    config["starts"]["cc3m_mmcl"]["start_epoch"] = 65
    with pytest.raises(StepError, match=r"start_epoch' is 65.*64 epochs"):
        expand(config)


def test_a_start_can_match_the_accuracy_of_another(config):
    config["starts"]["cc3m_mmcl_ssl"]["start_epoch"] = {"matches": "cc3m_mmcl"}
    config["starts"]["cc3m_mmcl"]["start_epoch"] = "best_accuracy"
    plan = expand(config)
    models = [model for model in plan.models if "/matches-" in model]
    reference = plan.models[models[0]]["reference"]
    assert reference.endswith("/best_accuracy")
    config["starts"]["cc3m_mmcl"]["start_epoch"] = {"matches": "cc3m_mmcl_ssl"}
    with pytest.raises(StepError, match="leads back"):
        expand(config)


def test_models_of_one_run_are_trained_one_after_another(config):
    config["experiments"] = {"main": config["experiments"]["pretraining_dynamics"]}
    config["experiments"]["main"] |= {
        "start": ["cc3m_mmcl"],
        "vary_start": {"start_epoch": ["last", 21, "best_accuracy", 3]},
    }
    plan = expand(config)
    run = next(iter(plan.runs))
    order = [f"{run}/epoch-3", f"{run}/epoch-21", f"{run}/best_accuracy", run]
    assert [model_before(plan, model) for model in order] == [None, *order[:3]]
    shares = [share_of_training(plan, model) for model in order]
    assert shares == [3 / 64, 18 / 64, 43 / 64, 0]
    steps = [words for rule, name, words in step_arguments(config, plan) if name == run]
    assert steps == [["--retain", "best_accuracy"]]


def test_arguments_of_steps_have_one_option_per_line(config):
    steps = list(step_arguments(config, expand(config)))
    (download,) = {tuple(words) for rule, _, words in steps if rule == "download"}
    assert "--threads-per-process=64" in download
    assert not any("\n" in word for _, _, words in steps for word in words)


def test_a_setting_at_its_default_is_not_in_an_id(config):
    settings = {"shift_epochs": 0, "weight": 1}
    assert normalized({"schedule": settings}, "pretraining") == {"schedule": {"weight": 1}}
    assert normalized({"joint_statistics": True, "epochs": 2}, "cleaning") == {"epochs": 2}


def test_weights_given_as_a_file_are_identified_by_their_content(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (_ids(_changed(config, "pretraining/model/pretrained", f"{x}.pt")) for x in "abc")
    assert a == b
    config["pathvars"]["results"] = str(tmp_path / "results")
    changed = _changed(config, "pretraining/model/pretrained", "a.pt")
    plan = expand(changed)
    plan.data.inputs.save()
    (tmp_path / "a.pt").unlink()
    assert expand(changed).runs.keys() == plan.runs.keys(), "the stored digest is used"
    assert not any(run.startswith("cc6m-mmcl-") and run in a for run in c)


def test_a_second_evaluation_set_of_the_same_measure_does_not_disturb_a_dry_run(config, tmp_path):
    config["pathvars"]["results"] = str(tmp_path)
    config["evaluations"]["second"] = {"folder": str(tmp_path / "nowhere")}
    for name, more in (("pa", {}), ("pb", {"evaluation": "second"})):
        config["measures"][name] = {"measure": "zero_shot", "every": "epoch", **more}
    config["experiments"]["main"]["measures"] = ["pa"]
    config["experiments"]["again"] = config["experiments"]["main"] | {"measures": ["pb"]}
    plan = expand(config)
    runs = [run for run, spec in plan.runs.items() if spec["kind"] == "pretraining"]
    assert finished_with_another_evaluation(config, plan, runs) == []


@pytest.mark.parametrize(("limit", "nodes", "processes"), [(None, 1, 8), (4, 1, 4), (4, 2, 8)])
def test_a_training_has_as_many_processes_as_snakemake_grants_gpus(config, limit, nodes, processes):
    config["resources"]["pretraining"]["nodes"] = nodes
    asked = rule_resources(config, expand(config), "pretraining", limit)
    assert asked["processes"] == processes
