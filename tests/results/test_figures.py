"""Figures match their numbers and the table of best models, and do not rely on colour."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.results import best, figure, style
from workflow_scripts.results.figures import by_value, dynamics, scatter, trajectories
from workflow_scripts.results.table import write_table

SHARES = ["asr_percent", "accuracy_percent"]
ROOT = Path(__file__).parents[2]


def drawn(kind, table, **options):
    with style.paper():
        made = kind.draw(table, **options)
        made.draw_without_rendering()
    return made


def offsets(axes, name):
    found = [c.get_offsets() for c in axes.collections if c.get_gid() == name]
    assert len(found) == 1
    return np.asarray(found[0], float)


def test_the_points_drawn_equal_the_numbers_written(metrics):
    made = drawn(scatter, metrics)
    numbers = made.numbers
    for axes, (_, panel) in zip(made.axes, numbers.groupby("panel", sort=False), strict=True):
        for series, rows in panel[panel["role"] == "cleaned"].groupby("series"):
            assert offsets(axes, series) == pytest.approx(rows[SHARES].to_numpy(float))
        for role in ("start", "best"):
            rows = panel.loc[panel["role"] == role, SHARES]
            assert offsets(axes, role) == pytest.approx(rows.to_numpy(float))
    cleaned = metrics[(metrics["kind"] == "cleaning") & (metrics["epoch"] > 0)]
    written = numbers[numbers["role"] == "cleaned"]
    assert sorted(written["accuracy_percent"]) == pytest.approx(sorted(100 * cleaned["top1"]))
    assert sorted(written["asr_percent"]) == pytest.approx(sorted(100 * cleaned["asr_top1"]))


def test_the_ring_marks_the_best_model_of_the_table(metrics):
    table = best.best_table(metrics, [0.05], 0.01).query("rule == 'best' and accuracy.notna()")
    groups = drawn(scatter, metrics, ring="group").numbers.query("role == 'best'")
    assert set(zip(groups["run"], groups["epoch"], strict=True)) == set(
        zip(table["run"], table["epoch"], strict=True)
    )
    panels = drawn(scatter, metrics).numbers.query("role == 'best'")
    top = table.loc[table.groupby("start_label", sort=False)["accuracy"].idxmax()]
    assert panels["run"].tolist() == top["run"].tolist()
    assert panels["panel"].tolist() == ["MMCL", "MMCL+SSL"]


def test_a_panel_without_a_model_of_low_asr_says_so_and_has_no_ring(metrics):
    made = drawn(scatter, metrics.assign(asr_top1=metrics["asr_top1"].clip(lower=0.2)))
    assert not (made.numbers["role"] == "best").any()
    notes = [text.get_text() for axes in made.axes for text in axes.texts]
    assert notes == ["No model with ASR < 5\N{NO-BREAK SPACE}%"] * 2


def test_nothing_lies_outside_its_panel(metrics):
    metrics.loc[metrics.index[-1], ["top1", "asr_top1"]] = [1.0, 0.0]
    metrics.loc[metrics.index[-2], ["top1", "asr_top1"]] = [0.0, 1.0]
    made = drawn(scatter, metrics, intervals="all")
    numbers = made.numbers
    for axes in made.axes:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert left < numbers["asr_percent"].min() <= numbers["asr_percent"].max() < right
        assert low < numbers["accuracy_low_percent"].min()
        assert high > numbers["accuracy_high_percent"].max()


def test_intervals_are_drawn_where_the_evaluation_set_is_small(metrics):
    assert drawn(scatter, metrics).numbers["interval_drawn"].all()
    large = metrics.assign(images=50_000, asr_images=49_950)
    assert not drawn(scatter, large).numbers["interval_drawn"].any()
    crowded = pd.concat([metrics.assign(run=metrics["run"] + f"-{n}") for n in range(3)])
    numbers = drawn(scatter, crowded.reset_index(drop=True)).numbers
    assert set(numbers.loc[numbers["interval_drawn"], "role"]) == {"start", "best"}


@pytest.mark.parametrize("count", [3, 8, 14])
@pytest.mark.parametrize("ordered", [False, True])
def test_levels_never_differ_by_colour_alone(count, ordered):
    looks = list(style.looks([str(n) for n in range(count)], ordered=ordered).values())
    assert len({(look.marker, look.filled) for look in looks}) == count
    assert len({(str(look.line), look.marker, look.filled) for look in looks}) == count
    if ordered:
        grey = [np.dot(to_rgb(look.colour), (0.299, 0.587, 0.114)) for look in looks]
        assert grey == sorted(grey)


def test_too_many_values_to_distinguish_are_an_error(metrics):
    with pytest.raises(StepError, match="cannot distinguish 30 values"):
        style.looks([f"value {n}" for n in range(30)])
    made = drawn(scatter, metrics.assign(step=range(len(metrics))), by="step")
    assert made.numbers.query("role == 'cleaned'")["series"].nunique() == 6  # ranges


def test_the_look_of_a_series_does_not_depend_on_the_others(metrics):
    names = ["MMCL", "SSL", "CleanCLIP"]
    faces = []
    for table in (metrics, metrics[metrics["defence"] != "MMCL"]):
        axes = drawn(scatter, table, order=names).axes[0]
        faces += [c.get_edgecolor()[0] for c in axes.collections if c.get_gid() == "CleanCLIP"]
    assert faces[0] == pytest.approx(faces[1])


def test_means_over_seeds_have_students_interval(metrics):
    seeds = pd.concat(
        [metrics.assign(seed=n, top1=metrics["top1"] + shift, run=metrics["run"] + f"-s{n}")
         for n, shift in enumerate((-0.01, 0.0, 0.01))],
        ignore_index=True,
    )  # fmt: skip
    one, mean = drawn(scatter, metrics).numbers, drawn(scatter, seeds, over="seed").numbers
    assert len(one) == len(mean)
    seeds["attack.seed"] = seeds["seed"]
    both = drawn(scatter, seeds, over=["seed", "attack.seed"]).numbers
    pd.testing.assert_frame_equal(both, mean)
    assert mean["accuracy_percent"].tolist() == pytest.approx(one["accuracy_percent"].tolist())
    half = 4.302652729911275 * 1.0 / np.sqrt(3)
    assert (mean["accuracy_high_percent"] - mean["accuracy_percent"]).tolist() == pytest.approx(
        [half] * len(mean)
    )


def test_a_mean_of_start_models_is_that_of_the_epochs_that_were_cleaned(metrics):
    own = metrics["kind"] == "pretraining"
    seeds = pd.concat(
        [
            metrics[~own | (metrics["epoch"] <= last)].assign(
                seed=n, start=metrics["start"] + f"-s{n}", run=metrics["run"] + f"-s{n}"
            )
            for n, last in enumerate((3, 5, 8))
        ],
        ignore_index=True,
    )
    seeds["triggered_top1"] = 0.1 * (1 + seeds["seed"])
    made = drawn(scatter, seeds, over="seed").numbers
    for label in ("MMCL", "MMCL+SSL"):
        (star,) = made.query("panel == @label and role == 'start'").to_dict("records")
        rows = metrics[own & (metrics["start_label"] == label)].set_index("epoch")
        assert star["accuracy_percent"] == pytest.approx(100 * rows["top1"][[3, 5, 8]].mean())
        assert star["asr_percent"] == pytest.approx(100 * rows["asr_top1"][[3, 5, 8]].mean())
    assert made["recovery_percent"].tolist() == pytest.approx([20] * len(made))


def test_a_mean_over_the_parts_of_an_attack_has_no_binomial_interval(metrics):
    parts = metrics.assign(asr_top1_mean=metrics["asr_top1"] / 2)
    made = drawn(scatter, parts, asr="asr_top1_mean", intervals="all").numbers
    assert made["asr_low_percent"].isna().all() and made["accuracy_low_percent"].notna().all()


@pytest.mark.parametrize("kind", ["scatter", "trajectories", "dynamics"])
def test_a_mean_is_not_attributed_to_the_run_of_one_seed(metrics, kind, tmp_path):
    seeds = pd.concat([metrics.assign(seed=n, run=metrics["run"] + f"-s{n}") for n in range(2)])
    outputs = [tmp_path / "figure.png"]
    figure.draw(seeds.reset_index(drop=True), {"kind": kind, "over": "seed"}, outputs)
    assert pd.read_csv(tmp_path / "figure.csv")["run"].isna().all()


@pytest.mark.parametrize("label", ["US$ 5 (%$)", "a $1 {x$ b", r"$\\foo$"])
def test_labels_may_contain_dollar_signs(metrics, label, tmp_path):
    named = metrics.assign(start_label=metrics["start_label"].replace({"MMCL": label}))
    figure.draw(named, {"kind": "scatter"}, [tmp_path / "scatter.png"])


def test_dynamics_draw_each_epoch_of_the_pretraining_runs(metrics):
    made = drawn(dynamics, metrics)
    pretraining = metrics[metrics["kind"] == "pretraining"]
    for axes, label in zip(made.axes, ("MMCL", "MMCL+SSL"), strict=True):
        run = pretraining[pretraining["start_label"] == label]
        lines = {line.get_gid(): line for line in axes.lines}
        assert lines["accuracy"].get_ydata() == pytest.approx(100 * run["top1"].to_numpy())
        assert lines["asr"].get_ydata() == pytest.approx(100 * run["asr_top1"].to_numpy())
        assert lines["asr"].get_linestyle() != lines["accuracy"].get_linestyle()
    assert len(made.numbers) == 18
    with pytest.raises(StepError, match="no pre-training run"):
        drawn(dynamics, metrics[metrics["kind"] == "cleaning"])


def test_a_trajectory_leads_from_the_start_to_the_last_epoch(metrics):
    made = drawn(trajectories, metrics)
    assert len(made.axes) == 6
    start = metrics[(metrics["kind"] == "pretraining") & (metrics["epoch"] == 8)].iloc[0]
    paths = [line for line in made.axes[0].lines if line.get_gid()]
    assert len(paths) == 3
    run = metrics[metrics["run"] == "mmcl-0000aaaa-mmcl-0.0003"].iloc[1:]
    expected = [100 * start["top1"], *(100 * run["top1"])]
    assert paths[0].get_ydata() == pytest.approx(expected)


def test_by_value_shows_the_selected_model_at_each_value_or_a_cross(metrics):
    metrics["objective.ssl"] = metrics["learning_rate"].map({3e-4: 1.0, 1e-3: 2.0, 3e-3: 4.0})
    made = drawn(by_value, metrics, value="objective.ssl")
    table = best.best_table(metrics, [0.05], 0.01).query("rule == 'best'")
    keys = ["start_label", "defence", "objective.ssl"]
    picks = table.set_index(keys)["accuracy"].mul(100).sort_index()
    shown = made.numbers.rename(columns=dict(zip(("panel", "series", "value"), keys, strict=True)))
    assert shown.set_index(keys)["percent"].sort_index().tolist() == pytest.approx(
        picks.tolist(), nan_ok=True
    )
    assert picks.isna().any()
    assert "No model qualifies" in legend(made)


def test_by_value_refuses_to_mix_start_models_where_the_rule_depends_on_them(metrics, baseline):
    mixed = metrics.assign(start_label="all")
    with pytest.raises(StepError, match="'highest_accuracy' depends on the start model"):
        by_value.draw(mixed, value="learning_rate", select="highest_accuracy", column=None)
    by_value.draw(mixed, value="learning_rate", select="best_below", column=None)
    both = pd.concat([mixed, baseline.assign(start_label="all")], ignore_index=True)
    made = drawn(by_value, both, value="learning_rate", column=None, by="start")
    assert len(made.numbers.query("rule == 'baseline'")) > 1, "one for each start model"


def test_figures_are_byte_identical_across_processes(metrics, tmp_path):
    write_table(tmp_path / "metrics", metrics)
    for seed in ("1", "2"):
        outputs = [str(tmp_path / seed / f"scatter.{kind}") for kind in ("png", "pdf")]
        subprocess.run(
            [sys.executable, "-m", "workflow_scripts.results.figure", "--metrics",
             str(tmp_path / "metrics.parquet"), "--spec", '{"kind": "scatter"}',
             "--output", *outputs],
            check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
    for name in ("scatter.png", "scatter.pdf", "scatter.csv"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    pdf = (tmp_path / "1" / "scatter.pdf").read_bytes()
    assert b"/FontFile2" in pdf, "text must stay text, in TrueType fonts"
    assert b"CreationDate" not in pdf


def run_figure(metrics, tmp_path, spec, *more):
    write_table(tmp_path / "metrics", metrics)
    table, output = str(tmp_path / "metrics.parquet"), str(tmp_path / "out.png")
    figure.main(["--metrics", table, "--spec", json.dumps(spec), "--output", output, *more])
    return pd.read_csv(tmp_path / "out.csv")


def test_a_figure_kind_can_be_a_users_file(metrics, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import matplotlib.pyplot as plt\n"
        "def draw(metrics, *, colour='k'):\n"
        "    figure, axes = plt.subplots()\n"
        "    axes.plot(metrics['epoch'], metrics['top1'], '.', color=colour)\n"
        "    figure.numbers = metrics[['epoch', 'top1']]\n"
        "    return figure\n"
    )
    spec = {"kind": str(mine), "colour": "red", "caption": "For the report."}
    numbers = run_figure(metrics, tmp_path, spec)
    assert list(numbers.columns) == ["epoch", "top1"]
    assert len(numbers) == len(metrics)
    assert (tmp_path / "out.png").stat().st_size > 1000


def test_where_selects_runs_and_their_start_models(metrics, tmp_path):
    spec = {"kind": "scatter", "where": {"defence": ["SSL"], "start_label": "MMCL"}}
    numbers = run_figure(metrics, tmp_path, spec)
    assert set(numbers["panel"]) == {"MMCL"}
    assert set(numbers.loc[numbers["role"] == "cleaned", "series"]) == {"SSL"}
    assert (numbers["role"] == "start").sum() == 1


def test_another_table_can_be_drawn_in_the_background(metrics, tmp_path):
    write_table(tmp_path / "others", metrics.assign(top1=0.25))
    spec = {"kind": "scatter", "under": str(tmp_path / "others.parquet"), "under_label": "Theirs"}
    numbers = run_figure(metrics, tmp_path, spec)
    beneath = numbers[numbers["role"] == "under"]
    assert len(beneath) == 18 * 4
    assert set(beneath["accuracy_percent"]) == {25.0}
    one = run_figure(metrics, tmp_path, spec | {"where": {"defence": "SSL"}})
    assert (one["role"] == "under").sum() == 6 * 4
    write_table(tmp_path / "others", metrics.assign(start_label="elsewhere"))
    with pytest.raises(StepError, match="no panel"):
        run_figure(metrics, tmp_path, spec)


def test_a_published_file_can_be_drawn_in_the_background(metrics, tmp_path):
    points = tmp_path / "published.json"
    name = "cleaning_poisoned_cc3m_mmcl_1500poison_clean_ssl_lr_"
    points.write_text(json.dumps({name: [[0.1] * 20, [0.3, 0.4] * 10]}))
    metrics["start_label"] = metrics["start_label"].replace({"MMCL": "CC3M, MMCL"})
    numbers = run_figure(metrics, tmp_path, {"kind": "scatter", "under": str(points)})
    beneath = numbers[numbers["role"] == "under"]
    assert beneath["panel"].tolist() == ["CC3M, MMCL"] * 20
    assert beneath["accuracy_percent"].tolist() == [30.0, 40.0] * 10


def test_background_points_are_read_with_the_options_of_the_reader(metrics, tmp_path):
    points = tmp_path / "published.json"
    points.write_text(json.dumps({"mine": [[0.9, 0.1, 0.9, 0.2], [0.5, 0.3, 0.5, 0.4]]}))
    labels = {"mine": {"start_label": "MMCL", "defence": "SSL"}}
    under = {"points": str(points), "epochs": 2, "first_epoch": 0, "labels": labels}
    numbers = run_figure(metrics, tmp_path, {"kind": "scatter", "under": under})
    beneath = numbers[numbers["role"].str.startswith("under")]
    assert beneath["role"].tolist() == ["under", "under", "under_start"]
    assert beneath["accuracy_percent"].tolist() == [30.0, 40.0, 50.0]
    write_table(tmp_path / "others", metrics)
    under = {"points": str(tmp_path / "others.parquet"), "epochs": 2}
    with pytest.raises(StepError, match="is a tidy table; remove them"):
        run_figure(metrics, tmp_path, {"kind": "scatter", "under": under})


def test_points_without_learning_rates_have_no_legend_entry_for_them(metrics):
    without = metrics.assign(learning_rate=np.nan)
    assert not any("earning rate" in text for text in legend(drawn(trajectories, without)))
    assert legend(drawn(trajectories, without)) == ["Start model"]
    assert legend(drawn(scatter, without, by="learning_rate", ring="none")) == ["Start model"]
    titles = [block.get_title().get_text() for block in drawn(trajectories, without).legends]
    assert titles == [""]


def test_a_clean_control_is_a_hollow_star_in_its_start_models_panel(metrics, baseline):
    both = pd.concat([metrics, baseline], ignore_index=True)
    last = baseline[baseline["epoch"] == 8]
    for kind, options in ((scatter, {}), (trajectories, {"column": None, "row": None})):
        without, made = drawn(kind, metrics, **options), drawn(kind, both, **options)
        rows = made.numbers.query("role == 'baseline'")
        assert rows["run"].tolist() == last["run"].tolist()
        assert rows["accuracy_percent"].tolist() == pytest.approx(100 * last["top1"].to_numpy())
        assert len(made.numbers) == len(without.numbers) + 2
        shown = np.concatenate([offsets(axes, "baseline") for axes in made.axes])
        assert shown == pytest.approx(rows[SHARES].to_numpy(float))
        assert "Clean control" in legend(made)
        assert "Clean control" not in legend(without)
    assert drawn(scatter, both).numbers.query("role == 'baseline'")["panel"].tolist() == [
        "MMCL", "MMCL+SSL"]  # fmt: skip


def test_a_clean_control_is_a_grey_line_in_dynamics(metrics, baseline):
    made = drawn(dynamics, pd.concat([metrics, baseline], ignore_index=True))
    for axes, (_, run) in zip(made.axes, baseline.groupby("run", sort=False), strict=True):
        lines = {line.get_gid(): line for line in axes.lines}
        assert lines["baseline accuracy"].get_ydata() == pytest.approx(100 * run["top1"].to_numpy())
        assert lines["baseline asr"].get_color() == lines["baseline accuracy"].get_color()
        assert lines["baseline asr"].get_color() != lines["asr"].get_color()
    assert (made.numbers["kind"] == "baseline").sum() == 18
    assert "Attack success rate, clean control" in legend(made)


def test_by_value_draws_clean_controls_and_held_out_selections(metrics, baseline):
    both = pd.concat([metrics, baseline], ignore_index=True).assign(seed=0)
    with pytest.raises(StepError, match="no model has the held-out loss"):
        drawn(by_value, both, value="seed", select="lowest_heldout_ssl")
    both["heldout_ssl"] = (both["epoch"] - 3.0).abs()
    made = drawn(by_value, both, value="seed", select="lowest_heldout_ssl", tolerance=1.0)
    numbers = made.numbers.set_index("rule")
    assert set(numbers.loc["lowest_heldout_ssl", "epoch"]) == {3}
    assert numbers.loc["baseline", "percent"].tolist() == pytest.approx(
        100 * baseline.loc[baseline["epoch"] == 8, "top1"].to_numpy()
    )


def legend(made):
    return [text.get_text() for block in made.legends for text in block.get_texts()]


def test_a_shared_clean_control_is_drawn_once_in_a_panel(metrics, baseline):
    twice = pd.concat([metrics, baseline.assign(run="clean")], ignore_index=True)
    numbers = drawn(scatter, twice, column=None).numbers
    assert (numbers["role"] == "baseline").sum() == 1
    control = drawn(dynamics, twice, column=None).numbers.query("kind == 'baseline'")
    assert len(control) == 9


def test_many_columns_of_panels_wrap_and_each_row_has_titles(metrics):
    tables = [
        metrics.assign(variant=f"V{n}", run=metrics["run"] + f"-{n}") for n in (6, 2, 5, 4, 1)
    ]
    made = drawn(scatter, pd.concat(tables, ignore_index=True), column="variant", row="start_label")
    titles = [axes.get_title(loc="left") for axes in made.axes if axes.axison]
    assert titles == ["V6", "V2", "V5", "V4", "V1"] * 2


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"kind": "scater"}, "unknown figure kind"),
        ({"kind": "scatter", "rings": "none"}, "did you mean 'ring'"),
        ({"kind": "scatter", "ring": "both"}, r"available: panel, group, none"),
        ({"kind": "scatter", "asr_below": 5}, "such as 0.05, got 5"),
        ({"kind": "scatter", "by": "defense"}, "did you mean 'defence'"),
        ({"kind": "by_value", "value": "objective.ssl"}, "no column 'objective.ssl'"),
        ({"kind": "by_value"}, "needs the option 'value'"),
        ({"kind": "scatter", "where": {"defence": "SLS"}}, "no run has defence 'SLS'"),
        ({"kind": "scatter", "where": {"seed": 1}}, "the metrics have no column 'seed'"),
        ({"by": "defence"}, "must have a kind"),
    ],
)
def test_a_wrong_declaration_is_a_clear_error(metrics, tmp_path, spec, said):
    with pytest.raises(StepError, match=said):
        run_figure(metrics, tmp_path, spec)
    assert not (tmp_path / "out.png").exists()


def test_empty_and_missing_tables_are_errors(metrics, tmp_path):
    with pytest.raises(StepError, match="has no rows"):
        run_figure(metrics.iloc[:0], tmp_path, {"kind": "scatter"})
    with pytest.raises(StepError, match="nothing to draw"):
        run_figure(metrics[metrics["kind"] == "pretraining"], tmp_path, {"kind": "scatter"})
    with pytest.raises(StepError, match="does not exist"):
        figure.main(["--metrics", "none.parquet", "--spec", "{}", "--output", "x.png"])
    with pytest.raises(StepError, match="unknown figure format"):
        style.save(drawn(scatter, metrics), tmp_path / "x.gif")


def test_every_kind_of_figure_has_its_caption():
    caption = (ROOT / "rules/report/figure.rst").read_text()
    kinds = variants.names("figure")
    assert set(kinds) >= {"scatter", "dynamics", "trajectories", "by_value"}
    assert [kind for kind in kinds if f'"{kind}"' not in caption] == []
