"""The tidy table has one row per run and epoch, without missing or additional rows."""

import json
from pathlib import Path

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import collect
from workflow_scripts.results.table import read_table, varied_columns, write_table


def collected(runs):
    collect.main(["--runs", str(runs), "--output", str(runs.parent / "metrics.parquet")])
    return read_table(runs.parent / "metrics.parquet")


def test_the_table_contains_every_epoch_of_every_run_unchanged(experiment, metrics):
    table = collected(experiment)
    assert len(table) == 2 * 9 + 18 * 5 == len(metrics)
    same = ["run", "kind", "start", "start_label", "defence", "learning_rate", "epoch", "top1",
            "asr_top1", "triggered_top1", "images", "asr_images"]  # fmt: skip
    pd.testing.assert_frame_equal(table[same], metrics[same])
    assert table["seconds"].isna().sum() == 20  # epoch 0 takes no time
    assert (table.loc[table["kind"] == "pretraining", "defence"] == "").all()


def test_the_csv_file_equals_the_parquet_file(experiment):
    table = collected(experiment)
    csv = pd.read_csv(experiment.parent / "metrics.csv", keep_default_na=False)
    assert list(csv.columns) == list(table.columns)
    assert pd.to_numeric(csv["top1"]).tolist() == table["top1"].tolist()


def test_varied_keys_are_columns(experiment):
    runs = pd.read_csv(experiment)
    runs["objective.ssl"], runs["attack.target"] = range(len(runs)), "banana"
    runs.to_csv(experiment, index=False)
    table = collected(experiment)
    assert table.groupby("run", sort=False)["objective.ssl"].first().tolist() == [*range(20)]
    assert set(table["attack.target"]) == {"banana"}
    assert "folder" not in table.columns


def test_runs_shared_by_experiments_are_listed_once(experiment, tmp_path):
    collected(experiment)
    other = tmp_path / "experiments" / "weights" / "runs.csv"
    other.parent.mkdir()
    pd.read_csv(experiment).iloc[:4].assign(seed=5).to_csv(other, index=False)
    collected(other)
    tables = [str(runs.parent / "metrics.parquet") for runs in (experiment, other)]
    collect.main(["--experiments", *tables, "--output", str(tmp_path / "metrics")])
    table = read_table(tmp_path / "metrics.parquet")
    assert len(table) == 2 * 9 + 18 * 5
    shared = table[table["experiments"] == "main, weights"]
    assert shared["run"].nunique() == 4
    assert set(shared["seed"]) == {5}
    assert table.loc[table["experiments"] == "main", "seed"].isna().all()


def test_combining_keeps_each_start_model_of_a_shared_clean_control(metrics):
    starts = metrics[metrics["kind"] == "pretraining"]
    control = starts.assign(kind="baseline", run=starts["run"].iloc[0])
    both = collect.combine({"a": pd.concat([starts, control]), "b": starts})
    assert len(both) == 2 * len(starts)
    assert both[both["kind"] == "baseline"]["start"].nunique() == 2
    assert set(both.loc[both["kind"] == "pretraining", "experiments"]) == {"a, b"}


def test_a_run_can_be_the_baseline_of_several_starts(experiment):
    runs = pd.read_csv(experiment)
    starts = runs["kind"] == "pretraining"
    control = runs[starts].assign(kind="baseline", run=runs["run"][0], folder=runs["folder"][0])
    pd.concat([runs, control]).to_csv(experiment, index=False)
    table = collected(experiment)
    rows = table[table["kind"] == "baseline"]
    assert rows.groupby("start").size().tolist() == [9, 9]
    assert len(table) == 2 * 9 + 18 * 5 + 2 * 9
    pd.concat([runs, control, control]).to_csv(experiment, index=False)
    with pytest.raises(StepError, match="is duplicated"):
        collected(experiment)


def test_held_out_losses_are_kept_and_may_be_missing(experiment):
    folder = Path(pd.read_csv(experiment)["folder"][1])
    metrics = pd.read_csv(folder / "metrics.csv").assign(heldout_ssl=0.5)
    metrics.to_csv(folder / "metrics.csv", index=False)
    table = collected(experiment)
    assert table["heldout_ssl"].count() == 5
    assert table["heldout_mmcl"].dtype == "float64"
    assert "heldout_ssl" not in varied_columns(table)


def test_a_column_may_have_numbers_in_one_experiment_and_texts_in_another(experiment, tmp_path):
    tables = {}
    for name, poisoned in (("counts", [25, 50]), ("triggers", [1500, "all"])):
        runs = pd.read_csv(experiment).iloc[[0, 10] if name == "counts" else [1, 11]]
        path = tmp_path / "experiments" / name / "runs.csv"
        path.parent.mkdir()
        runs.assign(**{"attack.poisoned": poisoned}).to_csv(path, index=False)
        tables[name] = collected(path)
    assert tables["counts"]["attack.poisoned"].dtype.kind == "i"
    write_table(tmp_path / "all", collect.combine(tables))
    assert set(read_table(tmp_path / "all.parquet")["attack.poisoned"]) == {
        "25",
        "50",
        "1500",
        "all",
    }


@pytest.mark.parametrize("name", ["metrics.csv", "timings.csv", "run.json"])
def test_a_missing_result_is_named_in_the_error(experiment, name):
    missing = Path(pd.read_csv(experiment)["folder"][3], name)
    missing.unlink()
    with pytest.raises(StepError, match="1 files of runs are missing") as error:
        collected(experiment)
    assert str(missing) in str(error.value)
    assert not (experiment.parent / "metrics.parquet").exists()


def test_no_runs_an_empty_file_and_a_wrong_run_are_errors(experiment):
    runs = pd.read_csv(experiment)
    (experiment.parent / "none.csv").write_text(",".join(runs.columns) + "\n")
    with pytest.raises(StepError, match="has no runs"):
        collect.main(["--runs", str(experiment.parent / "none.csv"), "--output", "x"])
    with pytest.raises(StepError, match=r"absent\.csv does not exist"):
        collect.main(["--runs", str(experiment.parent / "absent.csv"), "--output", "x"])
    first, second = (Path(folder) for folder in runs["folder"][:2])
    text = (first / "metrics.csv").read_text()
    (first / "metrics.csv").write_text((second / "metrics.csv").read_text())
    with pytest.raises(StepError, match="does not belong to run mmcl-0000aaaa"):
        collected(experiment)
    (first / "metrics.csv").write_text(text)
    (second / "run.json").write_text("{}")
    with pytest.raises(StepError, match="lacks the numbers of evaluation images"):
        collected(experiment)


def test_the_table_lists_existing_weights(experiment, tmp_path):
    run = pd.read_csv(experiment)["run"].iloc[-1]
    folder = tmp_path / "runs" / run
    record = json.loads((folder / "run.json").read_text())
    kept = [{"epoch": 1, "file": "kept/a.pt"}, {"epoch": 2, "file": "kept/b.pt"},
            {"epoch": 3, "file": None}]  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record | {"epoch": 4, "kept": kept}))
    (folder / "kept").mkdir()
    for file in ("kept/b.pt", "model.pt"):
        (folder / file).touch()
    table = collected(experiment)
    files = table.loc[table["run"] == run, "model_file"].tolist()
    assert files == ["", "", f"{folder}/kept/b.pt", "", f"{folder}/model.pt"]
    assert set(table.loc[table["run"] != run, "model_file"]) == {""}


def test_the_long_table_has_every_number_and_the_wide_one_is_a_view_of_it(experiment, tmp_path):
    run = pd.read_csv(experiment)["run"].iloc[-1]
    own = [[run, epoch, "probe-1", "accuracy", epoch / 7, 10] for epoch in range(5)]
    columns = ["run", "epoch", "measure", "name", "value", "of"]
    pd.DataFrame(own, columns=columns).to_csv(tmp_path / "runs" / run / "measures.csv", index=False)
    parts = {"asr_top1_mean": 0.5, "asr_top1_part1": 0.25}
    metrics = tmp_path / "runs" / run / "metrics.csv"
    pd.read_csv(metrics).assign(**parts).to_csv(metrics, index=False)
    table = collected(experiment)
    assert set(table.loc[table["run"] == run, "asr_top1_part1"]) == {0.25}
    long = pd.read_parquet(experiment.parent / "metrics_long.parquet")
    assert list(long.columns) == columns
    probe = long[long["measure"] == "probe-1"]
    assert probe["value"].tolist() == [epoch / 7 for epoch in range(5)]
    for name in ("top1", "asr_top5", "triggered_top1"):
        of_name = long[(long["measure"] == "evaluation") & (long["name"] == name)]
        assert of_name["value"].tolist() == table[name].tolist()
        assert set(of_name["of"]) == set(table["images" if name == "top1" else "asr_images"])
