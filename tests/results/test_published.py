"""Files in the published format are converted to the tidy table and usable by best.py."""

import json

import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import best, best_page, published
from workflow_scripts.results.table import read_table

NAME = "cleaning_poisoned_cc6m_{}_3000poison_clean_{}_lr_"


@pytest.fixture
def points(tmp_path):
    """A file with two series, each of two runs with three epochs."""
    path = tmp_path / "points.json"
    content = {
        NAME.format("mmcl", "mmcl_ssl"): [
            [0.9, 0.5, 0.049, 0.8, 0.05, 0.02],
            [0.25, 0.24, 0.2404, 0.25, 0.245, 0.20],
        ],
        NAME.format("mmcl_ssl", "ssl") + "cleaningdata_poison_5": [
            [0.9, 0.9, 0.9, 0.9, 0.9, 0],
            [0.2, 0.2, 0.2, 0.2, 0.2, 0.1305],
        ],
    }
    path.write_text(json.dumps(content))
    return path


def read(path, *more):
    output = path.parent / "metrics.parquet"
    arguments = ["--points", str(path), "--output", str(output), "--epochs", "3", *more]
    published.main(arguments)
    return read_table(output)


def test_the_points_of_a_series_are_split_into_runs(points):
    table = read(points)
    first = table[table["start_label"] == "CC6M, MMCL"]
    assert first["epoch"].tolist() == [1, 2, 3, 1, 2, 3]
    assert first["run"].nunique() == 2
    assert first["asr_top1"].tolist() == [0.9, 0.5, 0.049, 0.8, 0.05, 0.02]
    assert first["top1"].tolist()[2] == 0.2404
    assert set(first["defence"]) == {"MMCL + SSL (CleanCLIP)"}
    other = table[table["start_label"] == "CC6M, MMCL+SSL"]
    assert set(other["data.poisoned_left"]) == {5}
    assert first["data.poisoned_left"].isna().all()
    assert set(table["images"]) == {50_000}


def test_the_table_of_best_models_has_the_best_below_5_percent(points):
    rows = best.best_table(read(points), [0.05], 0.01, by=["defence"]).query("rule == 'best'")
    assert rows["accuracy"].tolist() == [0.2404, 0.1305]
    lines = best_page.readable(rows)
    texts = lines["Best accuracy with ASR < 5\N{NO-BREAK SPACE}%"]
    assert [text.split("\N{NO-BREAK SPACE}")[0] for text in texts] == ["24.0", "13.1"]


def test_start_models_can_be_given(points):
    table = read(points, "--start", "CC6M, MMCL", "0.24", "0.99")
    rows = best.best_table(table, [0.05], 0.01, by=["defence"])
    assert set(rows.loc[rows["start_label"] == "CC6M, MMCL", "start_accuracy"]) == {0.24}
    assert rows.loc[rows["start_label"] == "CC6M, MMCL+SSL", "start_accuracy"].isna().all()


def test_other_names_need_labels(points, tmp_path):
    content = json.loads(points.read_text())
    points.write_text(json.dumps({"mine": next(iter(content.values()))}))
    with pytest.raises(StepError, match="'mine' does not contain start_label and defence"):
        read(points)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"mine": {"start_label": "A", "defence": "B", "seed": 3}}))
    table = read(points, "--labels", str(labels))
    assert set(table["defence"]) == {"B"}
    assert set(table["seed"]) == {3}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1, 2", "is not JSON"),
        ("[]", "must contain"),
        ('{"%s": [[0.1], [0.1, 0.2]]}', "same number of ASRs and accuracies"),
        ('{"%s": [[10.0], [24.0]]}', "fractions"),
        ('{"%s": [["a"], [0.2]]}', "two lists of numbers"),
        ('{"%s": {"asr": [0.1], "accuracy": [0.2]}}', "two lists of numbers"),
        ('{"%s": 3}', "two lists of numbers"),
        ('{"%s": [[], []]}', "contains no points"),
    ],
)
def test_a_malformed_file_is_a_clear_error(points, content, said):
    points.write_text(content.replace("%s", NAME.format("mmcl", "ssl")))
    with pytest.raises(StepError, match=said):
        read(points)


def test_a_number_of_points_that_is_no_multiple_of_the_epochs_is_rejected(points):
    name = NAME.format("mmcl", "ssl")
    points.write_text(json.dumps({name: [[0.1] * 8, [0.2] * 8]}))
    with pytest.raises(StepError, match=r"8 points, which is not .* of 3; .*\(4 if the first"):
        read(points)
    points.write_text(json.dumps({name: [[0.1] * 7, [0.2] * 7]}))
    with pytest.raises(StepError, match="7 points, which is not a multiple of 3"):
        read(points)


def test_empty_series_are_skipped(points, tmp_path):
    content = json.loads(points.read_text())
    content[NAME.format("mmcl", "mmcl")] = []
    content[NAME.format("mmcl", "ssl")] = [[], []]
    points.write_text(json.dumps(content))
    assert set(read(points)["defence"]) == {"MMCL + SSL (CleanCLIP)", "SSL"}
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({NAME.format("mmcl", "mmcl_ssl"): None}))
    assert set(read(points, "--labels", str(labels))["defence"]) == {"SSL"}
    labels.write_text(json.dumps({NAME.format("mmcl", "mmcl_sl"): None}))
    with pytest.raises(StepError, match=r"no series .* did you mean"):
        read(points, "--labels", str(labels))


def test_a_name_without_a_dataset_needs_one(points):
    name = "cleaning_poisoned_mmcl_clean_ssl_lr_"
    points.write_text(json.dumps({name: [[0.1] * 3, [0.1, 0.2, 0.3]]}))
    with pytest.raises(StepError, match="does not contain start_label; set 'dataset'"):
        read(points)
    table = read(points, "--dataset", "CC3M")
    assert set(table["start_label"]) == {"CC3M, MMCL"}
    assert set(table["defence"]) == {"SSL"}


def test_runs_of_21_points_begin_with_their_start_model(points):
    run = [0.16, *[0.1] * 20]
    content = {
        NAME.format("mmcl", "ssl"): [[0.99, *[0.4] * 20] * 2, [*run, 0.1599, *run[1:]]],
        NAME.format("mmcl", "mmcl"): [[0.99, *[0.4] * 20], [0.1601, *run[1:]]],
    }
    points.write_text(json.dumps(content))
    table = read(points, "--epochs", "21")
    assert table.groupby("run")["epoch"].agg(["min", "max"]).to_numpy().tolist() == [[0, 20]] * 3
    rows = best.best_table(table, [0.5], 0.01, by=["defence"])
    assert set(rows["start_accuracy"]) == {0.16}
    table = read(points, "--epochs", "21", "--first-epoch", "1")
    assert set(table.groupby("run")["epoch"].max()) == {21}
    content[NAME.format("mmcl", "ssl")][1][0] = 0.2
    points.write_text(json.dumps(content))
    with pytest.raises(StepError, match="do not belong to one start model"):
        read(points, "--epochs", "21")
    assert len(read(points, "--epochs", "21", "--first-epoch", "1")) == 63
    table = read(points, "--epochs", "3", "--first-epoch", "1")
    assert set(table.groupby("run")["epoch"].min()) == {1}
