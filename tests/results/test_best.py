"""The best model is what a plain loop over the table finds, and the honest choice never peeks."""

import numpy as np
import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import best
from workflow_scripts.results.intervals import student, wilson
from workflow_scripts.results.selection import best_below, highest_accuracy, start_models
from workflow_scripts.results.table import write_table


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


def test_best_below_is_what_a_plain_loop_finds(metrics):
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


def test_the_start_itself_is_no_cleaned_model(metrics):
    metrics.loc[metrics["epoch"] == 0, ["top1", "asr_top1"]] = [0.99, 0.0]
    assert (table_of(metrics)["accuracy"].dropna() < 0.99).all()


def test_the_threshold_itself_is_not_below_it():
    models = pd.DataFrame({"top1": [0.9, 0.5], "asr_top1": [0.05, 0.049]}, index=[7, 8])
    assert best_below(models, 0.05) == 8
    assert best_below(models, 0.049) is None


def test_the_honest_choice_does_not_depend_on_the_asr(metrics):
    honest = table_of(metrics).query("rule == 'highest_accuracy'")
    shuffled = metrics.assign(asr_top1=metrics["asr_top1"].sample(frac=1, random_state=0).values)
    again = table_of(shuffled).query("rule == 'highest_accuracy'")
    assert honest["run"].tolist() == again["run"].tolist()
    assert honest["epoch"].tolist() == again["epoch"].tolist()
    assert honest["asr"].tolist() != again["asr"].tolist()


def test_the_honest_choice_stays_within_its_tolerance():
    models = pd.DataFrame({"top1": [0.55, 0.58, 0.58], "asr_top1": [0.0, 0.9, 0.1]})
    assert highest_accuracy(models, start_accuracy=0.60, tolerance=0.021) == 1
    assert highest_accuracy(models, start_accuracy=0.60, tolerance=0.01) is None
    assert highest_accuracy(models, start_accuracy=float("nan"), tolerance=0.5) is None


def test_a_held_out_loss_can_choose(metrics):
    metrics["held_out_ssl"] = np.where(metrics["epoch"] == 2, 0.1, 1.0)
    chosen = table_of(metrics, by=["defence"], lowest_of=["held_out_ssl"])
    rows = chosen[(chosen["rule"] == "lowest_held_out_ssl") & (chosen["run"] != "")]
    assert set(rows["epoch"]) == {2}
    with pytest.raises(StepError, match="no column 'loss'"):
        table_of(metrics, lowest_of=["loss"])


def test_what_varies_makes_groups_unless_told_otherwise(metrics):
    metrics["objective.ssl"] = np.where(metrics["learning_rate"] > 1e-3, 2.0, 1.0)
    assert len(table_of(metrics)) == 2 * 3 * 2 * 3
    assert len(table_of(metrics, by=["defence"])) == 2 * 3 * 3


def test_the_start_model_is_its_last_epoch_or_epoch_0_of_what_cleans_it(metrics):
    starts = start_models(metrics).set_index("start_label")
    assert starts["epoch"].tolist() == [8, 8]
    alone = start_models(metrics[metrics["kind"] == "cleaning"])
    assert alone["epoch"].tolist() == [0, 0]
    assert alone["start_label"].tolist() == ["MMCL", "MMCL+SSL"]


def test_pretraining_alone_is_an_error(metrics):
    with pytest.raises(StepError, match="no cleaned model"):
        table_of(metrics[metrics["kind"] == "pretraining"])


def test_pages_for_people_hold_every_group_and_escape_names(metrics, tmp_path):
    metrics["start_label"] = metrics["start_label"].replace({"MMCL": "<b>M|MCL"})
    write_table(tmp_path / "metrics", metrics)
    best.main(
        ["--metrics", str(tmp_path / "metrics.parquet"), "--output", str(tmp_path / "best.csv")]
    )
    page, text = (tmp_path / "best.html").read_text(), (tmp_path / "best.md").read_text()
    assert page.count("<tr>") == 1 + 6
    assert "&lt;b&gt;M|MCL" in page
    assert "<b>" not in page
    assert text.count("12 models of 3 runs") == 6
    assert "<b>M\\|MCL" in text
    assert "none" in text
    table = pd.read_csv(tmp_path / "best.csv")
    first = table[table["accuracy"].notna() & (table["rule"] == "best")].iloc[0]
    assert f"{100 * first['accuracy']:.1f}\N{NO-BREAK SPACE}%" in text


def test_wilson_is_the_root_of_the_score_equation():
    z = 1.959963984540054
    for share, count in ((0.3, 1480), (0.0, 50), (1.0, 50), (0.02, 1440)):
        for end in wilson(share, count):
            if 0 < end < 1:
                assert abs(share - end) == pytest.approx(z * np.sqrt(end * (1 - end) / count))
    assert wilson(0.0, 50)[0] == 0
    assert wilson(1.0, 50)[1] == 1
    assert np.isnan(wilson(0.5, np.nan)[0])


def test_student_is_the_interval_of_the_text_book():
    mean, low, high = student([1.0, 2.0, 4.0])
    half = 4.302652729911275 * np.std([1, 2, 4], ddof=1) / np.sqrt(3)  # t, 2 degrees of freedom
    assert (mean, low, high) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half))
    assert np.isnan(student([1.0])[1])
