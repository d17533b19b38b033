import copy

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.dotted import override
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.layout import run_inputs, written_spec


def test_the_main_experiments_have_every_start_defence_and_learning_rate(config):
    plan = expand(config)
    for name, rates in (("main", 8 + 16 + 16), ("main_cc3m", 3 * 13)):
        rows = plan.experiments[name]
        assert len(rows) == 2 + 2 * rates
        assert len({row["run"] for row in rows}) == len(rows)


def test_experiments_that_need_the_same_run_share_it(config):
    config["experiments"]["weights"] = {
        "start": ["cc6m_mmcl"],
        "defence": ["cleanclip"],
        "vary": {"objective.ssl": [1.0, 4.0]},
        "vary_start": {},
        "baseline": [],
        "figures": {},
    }
    plan = expand(config)
    main = {row["run"] for row in plan.experiments["main"]}
    weights = {row["run"]: row for row in plan.experiments["weights"]}
    shared = [row for run, row in weights.items() if run in main]
    assert {row.get("objective.ssl") for row in shared} == {None, 1.0}
    assert {row["objective.ssl"] for run, row in weights.items() if run not in main} == {4.0}


def test_a_changed_number_makes_new_ids_for_its_own_runs_only(config):
    before = expand(config)
    changed = copy.deepcopy(config)
    changed["defences"]["mmcl"]["batch_size"] = 256
    after = expand(changed)
    new = set(after.runs) - set(before.runs)
    assert new
    assert all(after.runs[run]["objective"] == {"mmcl": 1.0} for run in new)
    assert all(after.runs[run]["kind"] == "cleaning" for run in new)


def test_a_changed_pretraining_number_makes_new_ids_for_everything_that_depends_on_it(config):
    before = expand(config)
    changed = copy.deepcopy(config)
    changed["starts"]["cc3m_mmcl"]["batch_size"] = 4096
    after = expand(changed)
    rows = before.experiments["main_cc3m"]
    gone = {row["run"] for row in rows} - set(after.runs)
    dependents = {row["run"] for row in rows if row["start_label"] == "CC3M, MMCL"}
    assert gone == dependents
    assert dependents


def test_values_that_belong_together_are_listed_as_grids_of_one_combination(config):
    config["experiments"]["seeds"] = {
        "start": ["cc6m_mmcl"],
        "defence": [],
        "vary_start": [{"seed": [s], "attack.seed": [s]} for s in (0, 1, 2)],
        "baseline": [],
        "vary": {},
        "figures": {},
    }
    rows = expand(config).experiments["seeds"]
    assert [(row["seed"], row["attack.seed"]) for row in rows] == [(0, 0), (1, 1), (2, 2)]


def test_execution_settings_do_not_enter_ids(config):
    before = expand(config)
    changed = copy.deepcopy(config)
    changed["execution"]["wandb"]["mode"] = "online"
    changed["execution"]["staging"] = "$TMPDIR"
    changed["resources"]["pretraining"]["gpu"] = 4
    changed["starts"]["cc6m_mmcl"]["label"] = "another name"
    assert list(expand(changed).runs) == list(before.runs)


def test_an_override_of_an_unknown_key_names_the_closest_match():
    with pytest.raises(StepError, match=r"unknown key 'starts.x.attack.poison';.*attack.poisoned"):
        override({"attack": {"poisoned": 1}}, {"attack.poison": 2}, "starts.x")


def test_an_override_changes_a_loss_term_and_adds_none():
    defaults = {"objective": {"mmcl": 1.0, "clusters": {"weight": 5.0}}}
    spec = override(defaults, {"objective.mmcl": 2.0, "objective.clusters.k": 3}, "x")
    assert spec == {"objective": {"mmcl": 2.0, "clusters": {"weight": 5.0, "k": 3}}}
    with pytest.raises(StepError, match=r"'x.objective.mmlc' is .* not in the objective .*'mmcl'"):
        override(defaults, {"objective.mmlc": 2.0}, "x")


def test_an_override_of_a_users_own_loss_term_names_its_file():
    defaults = {"objective": {"my/own.term.py": {"weight": 1.0}}}
    spec = override(defaults, {"objective.my/own.term.py.weight": 2.0}, "x")
    assert spec == {"objective": {"my/own.term.py": {"weight": 2.0}}}


def test_an_override_below_null_asks_for_the_whole_mapping():
    with pytest.raises(StepError, match="which is null; set 'start_change' to a whole mapping"):
        override({"start_change": None}, {"start_change.shrink": 0.8}, "x")


def test_a_cleaning_spec_is_complete_and_leads_to_its_start(config):
    plan = expand(config)
    row = next(row for row in plan.experiments["main"] if row["kind"] == "cleaning")
    spec = written_spec(config, plan, "cleaning", row["run"])
    pretraining = plan.models[row["start"]]["run"]
    assert spec["attack"] == written_spec(config, plan, "pretraining", pretraining)["attack"]
    assert spec["model"] == plan.runs[pretraining]["model"]
    assert spec["inputs"]["start"] == f"results/pretraining/{row['start']}/model.pt"
    assert spec["inputs"]["start_optimizer"].endswith("/optimizer.pt")
    assert spec["inputs"]["manifest"].startswith("results/splits/")
    assert run_inputs(plan, pretraining)["manifest"].startswith("attacks/")


def test_a_baseline_is_the_same_recipe_without_poison(config):
    config["experiments"]["main"]["baseline"] = ["cc6m_mmcl_ssl"]
    plan = expand(config)
    (baseline,) = [row for row in plan.experiments["main"] if row["kind"] == "baseline"]
    control, start = (
        plan.runs[slug] for slug in (baseline["run"], plan.models[baseline["start"]]["run"])
    )
    assert baseline["start_label"] == "CC6M, MMCL+SSL"
    assert control["attack"]["poisoned"] == 0
    for spec in (control, start):
        spec.pop("attack_id")
        spec["attack"].pop("poisoned")
    assert control == start


def test_starts_that_differ_only_in_their_poison_share_a_clean_control(config):
    config["experiments"]["ablation_poison_count"]["baseline"] = ["cc6m_mmcl"]
    rows = expand(config).experiments["ablation_poison_count"]
    baselines = [row for row in rows if row["kind"] == "baseline"]
    starts = [row["start"] for row in rows if row["kind"] == "pretraining"]
    assert len({row["run"] for row in baselines}) == 1
    assert [row["start"] for row in baselines] == starts[: len(baselines)]
    assert len(baselines) == 7


def test_a_start_can_continue_from_another_but_not_from_itself(config):
    config["starts"]["cc3m_mmcl"]["start_epoch"] = "last"
    config["starts"]["second"] = {"label": "second", "continues": "cc3m_mmcl", "epochs": 2}
    config["starts"]["third"] = {"label": "third", "continues": "second", "epochs": 3}
    config["experiments"]["main"]["start"] = ["cc3m_mmcl", "third"]
    plan = expand(config)
    first, third = [r["run"] for r in plan.experiments["main"] if r["kind"] == "pretraining"]
    second = plan.runs[third]["start"]
    assert plan.runs[second]["start"] == first
    assert run_inputs(plan, third)["start"] == f"pretraining/{second}/model.pt"
    config["starts"]["second"]["continues"] = "third"
    with pytest.raises(StepError, match=r"'starts\.\w+\.continues' leads back"):
        expand(config)


def test_a_variant_names_a_combination_and_does_not_enter_ids(config):
    experiment = config["experiments"]["ablation_poison_count"]
    named = [{"variant": ["few"], "attack.poisoned": [25]}]
    experiment |= {"vary_start": named, "start": ["cc3m_mmcl"], "defence": ["mmcl"]}
    plan = expand(config)
    rows = plan.experiments["ablation_poison_count"]
    assert {row["variant"] for row in rows} == {"few"}
    assert {row["attack.poisoned"] for row in rows} == {25}
    named[0]["variant"] = ["another word"]
    assert expand(config).runs == plan.runs


def test_start_models_and_cleaning_runs_may_vary_the_same_key(config):
    experiment = config["experiments"]["ablation_seed"]
    experiment |= {"start": ["cc3m_mmcl"], "vary_start": {"seed": [0, 1]}}
    experiment["vary"] = {"seed": [5, 6], "optimizer.learning_rate": [1e-5]}
    figure = {"kind": "scatter", "over": ["start.seed", "seed"], "where": {"start.seed": [1]}}
    experiment["figures"] = {"scatter": figure}
    check_config(config)
    rows = expand(config).experiments["ablation_seed"]
    cleaned = [row for row in rows if row["kind"] == "cleaning"]
    assert sorted((row["start.seed"], row["seed"]) for row in cleaned) == [
        (0, 5), (0, 6), (1, 5), (1, 6)
    ]  # fmt: skip
    assert {row["start.seed"] for row in rows} == {0, 1}


def test_a_defences_own_sweep_and_its_knowledge_are_recorded(config):
    def recorded(name):
        rows = [r for r in expand(config).experiments[name] if r["kind"] == "cleaning"]
        return {row.get("sweep") for row in rows}, {row.get("knowledge") for row in rows}

    sweep, knowledge = recorded("task_vector")
    assert '{"start_change.alpha": 1.0}' in sweep
    assert knowledge == {"trigger, target, poisoned pairs"}
    assert recorded("wise_ft")[1] == {"clean model"}
    assert recorded("main_cc3m") == ({None}, {None})
    config["experiments"]["wise_ft"]["vary"] = {"start_change.alpha": [0.5]}
    assert recorded("wise_ft")[0] == {None}


def test_settings_varied_by_one_defence_are_columns_for_all_defences(config):
    rows = expand(config).experiments["ablation_shrink_and_perturb"]
    cleaned = [row for row in rows if row["kind"] == "cleaning"]
    assert {row["start_change.shrink"] for row in cleaned} == {"none", 0.8, 0.95}


def _labels(config):
    """Return the spec of the one artefact with pseudo-labels, and a run that uses it."""
    plan = expand(config)
    rows = plan.experiments["ablation_pseudo_labels"]
    runs = [row["run"] for row in rows if "pseudo" in row["defence"]]
    (labels,) = {plan.runs[run]["labels"]["artefact"] for run in runs}
    inputs = written_spec(config, plan, "cleaning", runs[0])["inputs"]
    assert inputs["labels"] == f"results/artefacts/{labels}/values.safetensors"
    assert "artefacts" not in inputs
    return plan.artefacts.specs[labels], plan.runs[runs[0]]


def test_pseudo_labels_are_those_of_the_images_that_a_run_trains_on(config):
    labels, run = _labels(config)
    assert labels["pairs"] == {"splits": run["split_id"]}
    assert labels["evaluation"] == run["evaluation"]
    # Also if they are predicted by a model that has its own pairs.
    config["artefacts"]["siglip"]["model"] = {"start": "cc3m_mmcl"}
    labels, run = _labels(config)
    assert labels["pairs"] == {"splits": run["split_id"]}
    assert labels["model"]["start"].startswith("cc3m-mmcl")


def test_pseudo_labels_of_other_pairs_are_rejected(config):
    config["artefacts"]["siglip"]["pairs"] = "attack"
    with pytest.raises(StepError, match=r"defences.pseudo_labels.labels.*'pairs: cleaning'"):
        expand(config)


def test_every_defence_of_the_paper_gets_the_sweep_of_its_launcher(config):
    trained = {name: d for name, d in config["defences"].items() if d.get("epochs") != 0}
    rates = {name: d["vary"]["optimizer.learning_rate"] for name, d in trained.items()}
    assert len(rates.pop("mmcl")) == 8
    assert {len(each) for each in rates.values()} == {16}
    assert len({str(each) for each in rates.values()}) == 1


def test_a_run_of_no_epochs_is_named_by_its_start_change_and_has_no_learning_rate(config):
    plan = expand(config)
    defence = config["defences"]["channel_lipschitz"]
    rows = [r for r in plan.experiments["ablation_pruning"] if r["defence"] == defence["label"]]
    assert len(rows) == 2 * len(defence["vary"]["start_change.u"])
    assert all(plan.runs[row["run"]]["epochs"] == 0 for row in rows)
    assert all("-by-channel_lipschitz-" in row["run"] for row in rows)
    assert {row["learning_rate"] for row in rows} == {None}


def test_cc3ms_clean_pairs_are_drawn_at_random_and_the_others_are_the_last_ones(config):
    plan = expand(config)
    for name, choose, victims in (("main", None, False), ("main_cc3m", "random", True)):
        rows = [row for row in plan.experiments[name] if row["kind"] == "cleaning"]
        splits = [plan.splits[plan.runs[row["run"]]["split_id"]] for row in rows]
        assert {split["choose"] for split in splits} == {choose}
        assert {split["leave_out_victims"] for split in splits} == {victims}
