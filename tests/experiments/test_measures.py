"""Measures of finished models: their ids and inputs; they enter no run's id."""

import copy
import csv
import json

import pytest

from workflow_scripts.common import variants
from workflow_scripts.common.files import read_json
from workflow_scripts.experiments import measures
from workflow_scripts.experiments.config import check_config
from workflow_scripts.experiments.expand import expand
from workflow_scripts.experiments.layout import written_spec
from workflow_scripts.experiments.plan import plan_rows, work_of
from workflow_scripts.experiments.specs import write_specs
from workflow_scripts.experiments.targets import Targets
from workflow_scripts.experiments.wall_clock import machines

ASKED = ["probe", "retrieval"]


def _asking(config, asked=ASKED, experiment="main", **declared):
    config = copy.deepcopy(config)
    config["measures"] |= declared
    config["experiments"][experiment]["measures"] = asked
    check_config(config)
    return config


def _ids(plan, experiment="main"):
    return {row["id"] for row in plan.measured[experiment]}


def test_adding_a_measure_changes_no_run_and_no_run_table(config):
    before, after = expand(config), expand(_asking(config))
    assert before.runs == after.runs
    assert before.models == after.models
    assert before.splits == after.splits
    assert before.experiments == after.experiments
    assert "main" not in before.measured


def test_each_model_of_an_experiment_is_measured_by_all_its_measures(config):
    config["experiments"]["main"]["baseline"] = ["cc6m_mmcl"]
    plan = expand(_asking(config))
    rows = plan.experiments["main"]
    assert {row["kind"] for row in rows} == {"pretraining", "baseline", "cleaning"}
    made = [(row["folder"], row["measure"]) for row in plan.measured["main"]]
    assert sorted(made) == sorted((row["folder"], m) for row in rows for m in ASKED)
    assert len(_ids(plan)) == 2, "all on the same images and pairs"
    files = measures.measure_files(plan, "main")
    assert len(files) == len(made) == len(set(files))


def test_a_measures_id_covers_its_options_without_defaults_and_its_data(config):
    first = _ids(expand(_asking(config, ["probe"])))

    def with_(**options):
        probe = {"measure": "linear_probe", **options}
        return _ids(expand(_asking(config, ["probe"], probe=probe)))

    assert first == with_(c=1.0) == with_(train_share=0.5, evaluation="imagenet")
    others = [with_(c=2.0), with_(seed=1), with_(evaluation="imagenet_v2")]
    assert len({*first, *(one for ids in others for one in ids)}) == 4
    renamed = expand(_asking(config, ["other"], other={"measure": "linear_probe"}))
    assert _ids(renamed) == first, "its name in the config is not part of it"


def test_execution_settings_do_not_enter_a_measures_id(config):
    first = _ids(expand(_asking(config)))
    config["execution"]["evaluation_batch_size"] = 7
    config["resources"]["measure"]["gpu"] = 0
    assert _ids(expand(_asking(config))) == first


def test_a_measure_reads_only_what_it_needs(config):
    plan = expand(_asking(config))
    row = plan.measured["main"][-1]
    assert row["measure"] == "retrieval"
    split = plan.runs[row["run"]]["split_id"]
    assert measures.measure_inputs(plan, row["id"]) == [f"splits/{split}/manifest.parquet"]
    probe = plan.measured["main"][0]
    assert measures.measure_inputs(plan, probe["id"]) == [
        f"evaluation/{plan.runs[probe['run']]['evaluation']}/manifest.parquet",
        f"evaluation/{plan.runs[probe['run']]['evaluation']}/classes.json",
    ]


def test_a_start_model_has_the_pairs_of_its_first_cleaning_and_a_cleaned_one_its_own(config):
    plan = expand(_asking(config, ["retrieval"], "ablation_cleaning_size"))
    splits = {
        (row["kind"], plan.measures[row["id"]]["split"])
        for row in plan.measured["ablation_cleaning_size"]
    }
    cleaned = {split for kind, split in splits if kind == "cleaning"}
    assert len(cleaned) == 2
    (start,) = {split for kind, split in splits if kind == "pretraining"}
    assert plan.splits[start]["pairs"] == 100000


def test_models_that_nobody_cleans_have_the_pairs_of_the_settings_of_cleaning(config):
    plan = expand(_asking(config, ["retrieval"], "pretraining_dynamics"))
    splits = [
        plan.splits[plan.measures[name]["split"]] for name in _ids(plan, "pretraining_dynamics")
    ]
    assert {split["pairs"] for split in splits} == {config["cleaning"]["data"]["pairs"]}
    assert len(splits) == 2, "of CC6M and of CC3M"


def test_the_paper_measures_only_models_that_other_experiments_train(config):
    whole = expand(config)
    del config["experiments"]["measures_of_models"]
    without = expand(config)
    assert whole.runs.keys() == without.runs.keys()
    kinds = [row["kind"] for row in whole.experiments["measures_of_models"]]
    assert kinds.count("baseline") == kinds.count("pretraining") == 2


def test_specs_and_the_table_of_what_is_measured_are_written(config, tmp_path):
    config["pathvars"]["results"] = str(tmp_path)
    config["experiments"], config["all"] = {"main": config["experiments"]["main"]}, ["main"]
    config = _asking(config)
    plan = expand(config)
    write_specs(config, plan, tmp_path / "workflow")
    for name in _ids(plan):
        spec = read_json(tmp_path / "workflow/specs/measures" / f"{name}.json")
        assert (spec["id"], spec["device"]) == (name, "cuda")
        assert bool(spec["pairs"]) == (spec["measure"] == "retrieval") == bool(spec["held_out"])
    folder = tmp_path / "workflow/arguments/measures"
    (table,) = folder.glob("main-*.csv")
    with table.open() as file:
        assert list(csv.DictReader(file)) == plan.measured["main"]
    assert table.stem == measures.declared_measures_name(plan, "main")


def test_the_plan_counts_measures_and_finished_ones(config, tmp_path):
    config["pathvars"]["results"] = str(tmp_path)
    config["experiments"], config["all"] = {"main": config["experiments"]["main"]}, ["main"]
    config = _asking(config, ["retrieval", "decree"])
    plan = expand(config)
    done = tmp_path / measures.measure_files(plan, "main")[0]
    done.parent.mkdir(parents=True)
    done.write_text("")
    rows = plan_rows(config, work_of(config), machines(config["resources"], None, None))
    (row,) = (row for row in rows if row["name"] == "measure")
    assert (row["jobs"], row["jobs_done"]) == (len(plan.measured["main"]), 1)
    models = len(plan.experiments["main"])
    rate = config["costs"]["evaluation_images_per_second"] * 3600
    assert row["gpu_hours"] == pytest.approx(models * (2 + 1000) * 1000 / rate, rel=1e-3)


def test_a_users_own_measure_is_identified_by_its_path(config, tmp_path, monkeypatch):
    (tmp_path / "my measure.py").write_text("NEEDS = ()\ndef measure(encoder, context): ...\n")
    monkeypatch.chdir(tmp_path)
    plan = expand(_asking(config, ["mine"], mine={"measure": "my measure.py"}))
    (name,) = _ids(plan)
    assert name.startswith("my_measure-")
    assert measures.measure_inputs(plan, name) == []


def test_every_measure_of_the_folder_is_declared_in_the_papers_config(config):
    declared = {one["measure"] for one in config["measures"].values()}
    assert declared == set(variants.names("measure"))


def test_the_written_measure_contains_only_what_the_step_reads(config):
    config = _asking(config)
    for _, spec in measures.written_measures(config, expand(config)):
        assert json.dumps(spec)
        assert set(spec) == {
            "id", "measure", "options", "evaluation", "pairs", "held_out", "batch_size", "device",
        }  # fmt: skip


def test_a_measure_of_each_epoch_renames_cleaning_runs_and_no_others(config):
    ends = expand(_asking(config))
    config = _asking(config, ["v2"], v2={"measure": "zero_shot", "evaluation": "imagenet_v2"})
    config["measures"]["v2"]["every"] = "end"
    assert expand(config).runs.keys() == ends.runs.keys()
    config["measures"]["v2"]["every"] = "epoch"
    plan = expand(config)
    taken = {run: spec["measures"] for run, spec in plan.runs.items() if "measures" in spec}
    cleaned = {row["run"] for row in plan.experiments["main"] if row["kind"] == "cleaning"}
    assert taken.keys() == cleaned
    assert not taken.keys() & ends.runs.keys()
    assert plan.models.keys() == ends.models.keys(), "no start model is trained again"
    run, (measure,) = next(iter(taken.items()))
    written = written_spec(config, plan, "cleaning", run)
    assert [one["id"] for one in written["inputs"]["measures"]] == written["measures"] == [measure]
    files = Targets(config, plan).of_training(run)
    assert f"<results>/evaluation/{plan.measures[measure]['evaluation']}/classes.json" in files
