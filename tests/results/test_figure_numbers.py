"""The numbers in a figure's caption are those of the table of best models."""

import json

import pandas as pd
from docutils.core import publish_parts

from workflow_scripts.results import figure_numbers
from workflow_scripts.results.best import best_table
from workflow_scripts.results.formatting import percent_text
from workflow_scripts.results.table import write_table


def test_the_caption_counts_the_runs_behind_the_figure(metrics):
    text = figure_numbers.reading(metrics, {"kind": "scatter"})
    assert "2 start models, 18 cleaning runs with 3 learning rates from 3×10⁻⁴ to 3×10⁻³" in text
    assert ", 72 cleaned models" in text
    assert "1,480 clean and 1,440 triggered images" in text
    one = figure_numbers.reading(metrics, {"kind": "scatter", "where": {"start_label": "MMCL"}})
    assert "1 start model, 9 cleaning runs" in one


def test_each_start_and_defence_has_the_numbers_of_the_best_table(metrics):
    lines = figure_numbers.reading(metrics, {"kind": "scatter", "asr_below": 0.1}).splitlines()
    best = best_table(metrics, [0.1], 0.01)
    for row in best[best["rule"] == "best"].to_dict("records"):
        (line,) = [x for x in lines if x.startswith(f"- Start model {row['start_label']}:")]
        assert f"{percent_text(row['start_accuracy'])} ({percent_text(row['start_asr'])})" in line
        numbers = f"{percent_text(row['accuracy'])} ({percent_text(row['asr'])})"
        assert f"{row['defence']}: {numbers if row['run'] else 'none'}" in line


def test_the_numbers_are_those_of_the_columns_that_the_figure_draws(metrics):
    declared = {"kind": "scatter", "accuracy": "top5", "asr": "asr_top3"}
    drawn = metrics.assign(top1=metrics["top5"], asr_top1=metrics["asr_top3"])
    text = figure_numbers.reading(metrics, declared)
    assert text == figure_numbers.reading(drawn, {"kind": "scatter"})
    assert text != figure_numbers.reading(metrics, {"kind": "scatter"})


def test_only_varied_columns_are_named(metrics):
    varied = metrics.assign(**{"objective.ssl": metrics["learning_rate"].map(str)})
    text = figure_numbers.reading(varied[varied["defence"] != "SSL"], {"kind": "by_value"})
    assert "MMCL, SSL weight 0.001: " in text
    alone = figure_numbers.reading(
        metrics[metrics["defence"].isin(["", "SSL"])], {"kind": "scatter"}
    )
    assert "SSL:" not in alone.replace("MMCL+SSL:", "")


def test_only_start_models_are_listed_if_the_figure_shows_no_others(metrics):
    text = figure_numbers.reading(metrics, {"kind": "by_value", "select": ["start"]})
    assert "After cleaning" not in text
    chosen = figure_numbers.reading(metrics, {"kind": "by_value", "select": "highest_accuracy"})
    assert "the highest accuracy, regardless of the ASR" in chosen


def test_pre_training_is_described_by_its_end_and_the_epoch_of_half_the_asr(metrics):
    text = figure_numbers.reading(metrics, {"kind": "dynamics"})
    own = metrics[(metrics["kind"] == "pretraining") & (metrics["start_label"] == "MMCL")]
    first = own[own["asr_top1"] >= 0.5].iloc[0]
    assert f"after epoch {first['epoch']}: {percent_text(first['top1'])}" in text
    never = figure_numbers.reading(metrics.assign(asr_top1=0.1), {"kind": "dynamics"})
    assert never.count("never reached 50") == 2


def test_long_captions_are_truncated_and_user_names_are_escaped(metrics, tmp_path):
    many = metrics[metrics["kind"] == "pretraining"].iloc[:9]
    rows = [many.assign(run=f"{n}", start=f"{n}", start_label=f"*my|own_ `{n}") for n in range(20)]
    write_table(tmp_path / "metrics", pd.concat(rows))
    figure_numbers.main(
        ["--metrics", f"{tmp_path}/metrics.parquet", "--spec", json.dumps({"kind": "dynamics"}),
         "--output", f"{tmp_path}/figure.rst"]
    )  # fmt: skip
    text = (tmp_path / "figure.rst").read_text()
    assert text.count("\n- ") == 13
    assert "and 8 more" in text
    body = publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]
    assert "*my|own_ `3" in body


def test_clean_controls_are_listed_with_the_start_models(metrics, baseline):
    with_controls = pd.concat([metrics, baseline])
    for kind in ("scatter", "dynamics"):
        text = figure_numbers.reading(with_controls, {"kind": kind})
        assert text.count("clean control") == 2
        assert text.count("(2.0\N{NO-BREAK SPACE}%)") >= 2
    assert "2 start models" in figure_numbers.reading(with_controls, {"kind": "scatter"})
