"""The best model agrees with a plain loop; oracle-free selection does not depend on the ASR."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.intervals import binomial, student
from workflow_scripts.results import best, best_page
from workflow_scripts.results.selection import (
    best_below,
    cleaned_models,
    oracle_free_choice,
    start_models,
)
from workflow_scripts.results.sweeps import work_sentence
from workflow_scripts.results.table import order, varied_columns, write_table


def table_of(metrics, **options):
    return best.best_table(metrics, [0.05, 0.10], 0.01, **options)


def plain_best(metrics, label, defence, below):
    found = (np.nan, None, None)
    for row in metrics.to_dict("records"):
        mine = row["kind"] == "cleaning" and (row["start_label"], row["defence"]) == (
            label,
            defence,
        )
        if mine and row["epoch"] > 0 and row["asr_top1"] < below and not row["top1"] <= found[0]:
            found = (row["top1"], row["run"], row["epoch"])
    return found


def test_best_below_agrees_with_a_plain_loop(metrics):
    table = table_of(metrics)
    rows = table[table["rule"] == "best"]
    assert len(rows) == 2 * 3 * 2
    for row in rows.to_dict("records"):
        accuracy, run, epoch = plain_best(
            metrics, row["start_label"], row["defence"], row["asr_below"]
        )
        assert row["models"] == 12
        assert row["runs"] == 3
        if run is None:
            assert row["run"] == ""
            assert np.isnan(row["accuracy"])
            assert pd.isna(row["epoch"])
        else:
            assert (row["accuracy"], row["run"], row["epoch"]) == (accuracy, run, epoch)
    assert (rows["run"] == "").any(), "the made metrics must hold a group without such a model"
    assert (rows["run"] != "").any()


def test_the_start_model_is_not_a_cleaned_model(metrics):
    metrics.loc[metrics["epoch"] == 0, ["top1", "asr_top1"]] = [0.99, 0.0]
    assert (table_of(metrics)["accuracy"].dropna() < 0.99).all()


def test_an_asr_equal_to_the_threshold_does_not_qualify():
    models = pd.DataFrame({"top1": [0.9, 0.5], "asr_top1": [0.05, 0.049]}, index=[7, 8])
    assert best_below(models, 0.05) == 8
    assert best_below(models, 0.049) is None


def test_oracle_free_selection_does_not_depend_on_the_asr(metrics):
    chosen = table_of(metrics).query("rule == 'highest_accuracy'")
    shuffled = metrics.assign(asr_top1=metrics["asr_top1"].sample(frac=1, random_state=0).values)
    again = table_of(shuffled).query("rule == 'highest_accuracy'")
    assert chosen["run"].tolist() == again["run"].tolist()
    assert chosen["epoch"].tolist() == again["epoch"].tolist()
    assert chosen["asr"].tolist() != again["asr"].tolist()


def test_oracle_free_selection_stays_within_its_tolerance():
    models = pd.DataFrame({"top1": [0.55, 0.58, 0.58], "asr_top1": [0.0, 0.9, 0.1]})
    rule = "highest_accuracy"
    assert oracle_free_choice(rule, models, start_accuracy=0.60, tolerance=0.021) == 1
    assert oracle_free_choice(rule, models, start_accuracy=0.60, tolerance=0.01) is None
    assert oracle_free_choice(rule, models, start_accuracy=float("nan"), tolerance=0.5) is None


def test_held_out_losses_select_if_the_metrics_have_them(metrics):
    assert set(table_of(metrics)["rule"]) == {"best", "highest_accuracy"}
    cleaned = metrics["kind"] == "cleaning"
    metrics["heldout_ssl"] = np.where(metrics["epoch"] == 2, 0.1, 1.0)
    metrics["heldout_ssl"] = metrics["heldout_ssl"].where(cleaned)
    metrics["heldout_mmcl"] = np.nan
    table = table_of(metrics, by=["defence"])
    assert set(table["rule"]) == {"best", "highest_accuracy", "lowest_heldout_ssl"}
    rows = table[(table["rule"] == "lowest_heldout_ssl") & (table["run"] != "")]
    assert set(rows["epoch"]) == {2}
    assert (rows["accuracy"] >= rows["start_accuracy"] - 0.01).all()
    heading = "Lowest held-out SSL loss within 1 pp of the start: accuracy / ASR"
    assert heading in best_page.readable(table).columns


def test_a_selected_model_has_its_recovery_and_is_marked_at_the_edge_of_the_sweep(metrics):
    rows = table_of(metrics).query("rule == 'best' and run != ''")
    chosen = metrics.set_index(["run", "epoch"])
    rates = (3e-4, 1e-3, 3e-3)
    for row in rows.to_dict("records"):
        assert row["recovery"] == chosen.loc[(row["run"], row["epoch"]), "triggered_top1"]
        assert row["at_edge"] == (row["learning_rate"] in (rates[0], rates[-1]))
    assert set(rows["at_edge"]) == {True, False}
    two = metrics[metrics["learning_rate"] != 3e-4]
    assert not table_of(two[two["kind"] == "cleaning"]).query("rule == 'best'")["at_edge"].any()
    shown = best_page.readable(table_of(metrics)).filter(like="< 5").iloc[:, 0]
    assert shown.str.contains("recovery").sum() == (rows["asr_below"] == 0.05).sum()
    assert any("†" in note for note in best_page.notes(table_of(metrics), metrics))


def test_a_start_model_without_a_backdoor_has_nothing_to_remove(metrics):
    start = metrics["start_label"] == "MMCL"
    metrics.loc[start & (metrics["kind"] == "pretraining"), "asr_top1"] = 0.01
    shown = best_page.readable(table_of(metrics)).set_index("Start model")
    texts = shown.filter(like="< 5").loc["MMCL"].iloc[:, 0]
    assert texts.str.contains("nothing to remove").all()


def test_a_clean_control_is_listed_but_never_selected(metrics, baseline):
    without, table = table_of(metrics), table_of(pd.concat([metrics, baseline]))
    assert without["baseline_accuracy"].isna().all()
    last = baseline[baseline["epoch"] == 8].set_index("start")
    assert table["baseline_accuracy"].tolist() == last.loc[table["start"], "top1"].tolist()
    assert table["baseline_asr"].tolist() == last.loc[table["start"], "asr_top1"].tolist()
    columns = [c for c in table.columns if not c.startswith("baseline")]
    pd.testing.assert_frame_equal(table[columns], without[columns])
    assert "Clean control: accuracy / ASR" in best_page.readable(table).columns
    assert "Clean control: accuracy / ASR" not in best_page.readable(without).columns


def test_a_run_without_training_is_a_candidate_but_not_a_start_model(metrics):
    first = metrics[(metrics["kind"] == "cleaning") & (metrics["epoch"] == 0)].iloc[:1]
    changed = first.assign(run="changed", defence="Pruning", learning_rate=np.nan)
    changed = changed.assign(top1=0.5, asr_top1=0.01, samples_seen=0)
    both = pd.concat([changed, metrics], ignore_index=True)
    assert (cleaned_models(both)["run"] == "changed").sum() == 1
    assert len(cleaned_models(both)) == 1 + len(cleaned_models(metrics))
    without_own = both[both["kind"] != "pretraining"]
    assert "changed" not in set(start_models(without_own)["run"])
    row = table_of(both).set_index("defence").loc["Pruning"].iloc[0]
    assert (row["accuracy"], row["run"], row["epoch"]) == (0.5, "changed", 0)
    assert "Pruning: 1 run without training;" in work_sentence(both)


def test_unequal_sweeps_are_reported(metrics):
    same = "All defences have the same sweep: 3 learning rates x 4 epochs on about 6,400 pairs"
    assert work_sentence(metrics).startswith(same)
    fewer = metrics[(metrics["defence"] != "SSL") | (metrics["learning_rate"] > 4e-4)]
    said = work_sentence(fewer)
    assert said.startswith("Defences have unequal sweeps")
    assert "; SSL: 2 learning rates x 4 epochs on about 6,400 pairs;" in said
    other = metrics["learning_rate"].mask(metrics["defence"] == "SSL", metrics["learning_rate"] / 2)
    assert "with different learning rates" in work_sentence(metrics.assign(learning_rate=other))
    double = metrics["samples_seen"].mask(metrics["defence"] == "SSL", metrics["samples_seen"] * 2)
    assert "on about 13,000 pairs" in work_sentence(metrics.assign(samples_seen=double))
    batches = metrics["samples_seen"].mask(metrics["defence"] == "SSL", metrics["samples_seen"] - 9)
    assert work_sentence(metrics.assign(samples_seen=batches)).startswith(same)


def test_sweeps_that_differ_by_a_varied_key_are_reported(metrics):
    metrics = metrics[(metrics["kind"] == "pretraining") | (metrics["defence"] == "SSL")]
    metrics = metrics.assign(epochs=np.where(metrics["learning_rate"] > 1e-3, 2, 4))
    metrics = metrics[(metrics["kind"] == "pretraining") | (metrics["epoch"] <= metrics["epochs"])]
    said = work_sentence(metrics)
    assert said.startswith("Rows have unequal sweeps")
    assert "2 learning rates x 4 epochs" in said
    assert "1 learning rate x 2 epochs" in said


def test_contamination_is_listed_in_the_table_and_below_it(metrics, tmp_path):
    write_table(tmp_path / "metrics", metrics)
    (tmp_path / "leaks.csv").write_text(
        "start,pairs,originals_of_victims,duplicates\n"
        "mmcl-0000aaaa,100000,12,3\nmmcl_ssl-0000aaaa,100000,0,3\n"
        "mmcl_ssl-0000aaaa,200000,7,3\nmmcl_ssl-0000aaaa,200000,9,3\n"
    )
    arguments = ["--metrics", str(tmp_path / "metrics.parquet"), "--output", str(tmp_path / "best")]
    best.main([*arguments, "--leaks", str(tmp_path / "leaks.csv")])
    text = (tmp_path / "best.md").read_text()
    assert text.count("| 12 of 100,000 |") == 3
    assert text.count("| 0 of 100,000; 7 to 9 of 200,000 |") == 3
    assert "byte-identical to a pre-training image: 3." in text
    (tmp_path / "leaks.csv").write_text("start,pairs\n")
    with pytest.raises(StepError, match="no column originals_of_victims"):
        best.main([*arguments, "--leaks", str(tmp_path / "leaks.csv")])


def test_varied_columns_form_groups_by_default(metrics):
    metrics["objective.ssl"] = np.where(metrics["learning_rate"] > 1e-3, 2.0, 1.0)
    assert len(table_of(metrics)) == 2 * 3 * 2 * 3
    assert len(table_of(metrics, by=["defence"])) == 2 * 3 * 3


def test_columns_with_a_single_value_are_omitted_for_readers(metrics):
    same = metrics.assign(**{"data.choose": "random", "objective.ssl": 1.0})
    columns = list(best_page.readable(table_of(same)).columns)
    assert columns[:3] == ["Start model", "Cleaned by", "Start model: accuracy / ASR"]
    weights = metrics["learning_rate"].map({3e-4: 1.0, 1e-3: 2.0, 3e-3: 2.0})
    columns = best_page.readable(table_of(same.assign(**{"objective.ssl": weights}))).columns
    assert "SSL weight" in columns
    assert "Choose" not in columns


def test_the_start_model_is_its_last_epoch_or_epoch_0_of_a_cleaning_run(metrics):
    starts = start_models(metrics).set_index("start_label")
    assert starts["epoch"].tolist() == [8, 8]
    alone = start_models(metrics[metrics["kind"] == "cleaning"])
    assert alone["epoch"].tolist() == [0, 0]
    assert alone["start_label"].tolist() == ["MMCL", "MMCL+SSL"]


def test_pretraining_alone_is_an_error(metrics):
    with pytest.raises(StepError, match="no cleaned model"):
        table_of(metrics[metrics["kind"] == "pretraining"])


def test_formatted_tables_contain_every_group_and_escape_names(metrics, tmp_path):
    metrics["start_label"] = metrics["start_label"].replace({"MMCL": "<b>M|MCL"})
    write_table(tmp_path / "metrics", metrics)
    best.main(
        ["--metrics", str(tmp_path / "metrics.parquet"), "--output", str(tmp_path / "best.csv")]
    )
    page, text = (tmp_path / "best.html").read_text(), (tmp_path / "best.md").read_text()
    assert page.count("<tr>") == 1 + 6
    assert "&lt;b&gt;M|MCL" in page
    assert "<b>" not in page
    assert text.count("12 models from 3 runs") == 6
    assert "\\<b>M\\|MCL" in text
    assert "none" in text
    table = pd.read_csv(tmp_path / "best.csv")
    first = table[table["accuracy"].notna() & (table["rule"] == "best")].iloc[0]
    assert f"{100 * first['accuracy']:.1f}\N{NO-BREAK SPACE}%" in text


def test_wilson_limits_solve_the_score_equation():
    z = 1.959963984540054
    for share, count in ((0.3, 1480), (0.0, 50), (1.0, 50), (0.02, 1440)):
        for end in binomial(share, count):
            if 0 < end < 1:
                assert abs(share - end) == pytest.approx(z * np.sqrt(end * (1 - end) / count))
    assert binomial(0.0, 50)[0] == 0
    assert binomial(1.0, 50)[1] == 1
    assert np.isnan(binomial(0.5, np.nan)[0])


def test_intervals_of_few_images_are_exact():
    low, high = binomial([0.0, 0.5, 1.0], 16)
    expected = [stats.binomtest(k, 16).proportion_ci(method="exact") for k in (0, 8, 16)]
    assert np.allclose(low, [ci.low for ci in expected])
    assert np.allclose(high, [ci.high for ci in expected])


def test_students_interval_agrees_with_the_textbook_formula():
    mean, low, high = student([1.0, 2.0, 4.0])
    half = 4.302652729911275 * np.std([1, 2, 4], ddof=1) / np.sqrt(3)  # t, 2 degrees of freedom
    assert (mean, low, high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))
    assert np.isnan(student([1.0])[1])


def test_the_table_lists_the_file_of_each_selected_model(metrics):
    files = metrics["run"] + "/" + metrics["epoch"].astype(str)
    table = table_of(metrics.assign(model_file=files))
    chosen = table[table["run"] != ""]
    assert (chosen["model_file"] == chosen["run"] + "/" + chosen["epoch"].astype(str)).all()
    assert set(table.loc[table["run"] == "", "model_file"]) == {""}


def test_the_best_of_all_runs_is_the_best_of_its_own_run(metrics):
    """Training keeps the selected models of each run; the best of all runs is one of them."""
    for _, models in cleaned_models(metrics).groupby(["start", "defence"]):
        for below in (0.05, 0.1):
            of_runs = [best_below(run, below) for _, run in models.groupby("run")]
            assert best_below(models, below) in of_runs


def test_the_asr_of_each_part_of_an_attack_is_listed(metrics):
    parts = {"asr_top1_mean": metrics["asr_top1"] / 2, "asr_top1_part1": metrics["asr_top1"],
             "asr_top1_part2": 0.0}  # fmt: skip
    metrics = order(metrics.assign(**parts))
    assert not set(parts) & set(varied_columns(metrics))
    table = table_of(metrics)
    chosen = table[table["run"] != ""]
    assert (chosen["asr_top1_part1"] == chosen["asr"]).all()
    assert (chosen["asr_top1_mean"] == chosen["asr"] / 2).all()
    texts = best_page.readable(table).astype(str).to_numpy().ravel()
    assert any("; parts" in text and ", 0.0" in text for text in texts)
    assert any("several parts" in note for note in best_page.notes(table, metrics))


def test_models_taken_from_several_epochs_of_one_run_are_start_models_of_their_own(metrics):
    own = metrics[(metrics["kind"] == "pretraining") & (metrics["start_label"] == "MMCL")]
    early = own[own["epoch"] <= 3].assign(start=own["start"] + "/epoch-3")
    found = start_models(pd.concat([early, own], ignore_index=True))
    assert found["epoch"].tolist() == [3, 8]
