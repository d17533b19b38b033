"""The numbers in a figure's caption are those of the table of best models."""

import json

from docutils.core import publish_parts

from workflow_scripts.results import reading
from workflow_scripts.results.best import best_table
from workflow_scripts.results.table import write_table
from workflow_scripts.results.text import percent_text


def test_it_counts_what_is_behind_the_figure(metrics):
    text = reading.reading(metrics, {"kind": "scatter"})
    assert "2 start models, 18 cleaning runs with 3 learning rates from 3×10⁻⁴ to 3×10⁻³" in text
    assert ", 72 cleaned models" in text
    assert "1,480 images, and on 1,440 triggered ones" in text
    one = reading.reading(metrics, {"kind": "scatter", "where": {"start_label": "MMCL"}})
    assert "1 start model, 9 cleaning runs" in one


def test_each_start_and_defence_has_the_numbers_of_the_best_table(metrics):
    lines = reading.reading(metrics, {"kind": "scatter", "asr_below": 0.1}).splitlines()
    best = best_table(metrics, [0.1], 0.01)
    for row in best[best["rule"] == "best"].to_dict("records"):
        (line,) = [x for x in lines if x.startswith(f"- Start model {row['start_label']}:")]
        assert f"{percent_text(row['start_accuracy'])} ({percent_text(row['start_asr'])})" in line
        numbers = f"{percent_text(row['accuracy'])} ({percent_text(row['asr'])})"
        assert f"{row['defence']}: {numbers if row['run'] else 'none'}" in line


def test_what_varies_is_named_and_what_does_not_is_not(metrics):
    varied = metrics.assign(**{"objective.ssl": metrics["learning_rate"].map(str)})
    text = reading.reading(varied[varied["defence"] != "SSL"], {"kind": "by_value"})
    assert "MMCL, objective.ssl 0.001: " in text
    alone = reading.reading(metrics[metrics["defence"].isin(["", "SSL"])], {"kind": "scatter"})
    assert "SSL:" not in alone.replace("MMCL+SSL:", "")


def test_only_the_start_models_are_told_where_the_figure_shows_no_others(metrics):
    text = reading.reading(metrics, {"kind": "by_value", "select": ["start"]})
    assert "Cleaned" not in text
    honest = reading.reading(metrics, {"kind": "by_value", "select": "highest_accuracy"})
    assert "whatever its ASR" in honest


def test_pre_training_is_told_by_its_end_and_when_the_asr_passed_one_half(metrics):
    text = reading.reading(metrics, {"kind": "dynamics"})
    own = metrics[(metrics["kind"] == "pretraining") & (metrics["start_label"] == "MMCL")]
    first = own[own["asr_top1"] >= 0.5].iloc[0]
    assert f"first after epoch {first['epoch']}: {percent_text(first['top1'])}" in text
    never = reading.reading(metrics.assign(asr_top1=0.1), {"kind": "dynamics"})
    assert never.count("never at 50") == 2


def test_a_long_one_is_cut_and_names_of_ones_own_are_no_markup(metrics, tmp_path):
    many = metrics[metrics["kind"] == "pretraining"].iloc[:9]
    rows = [many.assign(run=f"{n}", start=f"{n}", start_label=f"*my|own_ `{n}") for n in range(20)]
    write_table(tmp_path / "metrics", reading.pd.concat(rows))
    reading.main(
        ["--metrics", f"{tmp_path}/metrics.parquet", "--spec", json.dumps({"kind": "dynamics"}),
         "--output", f"{tmp_path}/figure.rst"]
    )  # fmt: skip
    text = (tmp_path / "figure.rst").read_text()
    assert text.count("\n- ") == 13
    assert "and 8 more" in text
    body = publish_parts(text, writer="html", settings_overrides={"halt_level": 2})["body"]
    assert "*my|own_ `3" in body


def test_what_no_backdoor_looks_like_stands_beside_the_start_models(metrics, baseline):
    with_twins = reading.pd.concat([metrics, baseline])
    for kind in ("scatter", "dynamics"):
        text = reading.reading(with_twins, {"kind": kind})
        assert text.count("without poison") == 2
        assert text.count("(2.0\N{NO-BREAK SPACE}%)") >= 2
    assert "2 start models" in reading.reading(with_twins, {"kind": "scatter"})
