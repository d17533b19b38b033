"""Files of the published shape become the tidy table, and the table of the best reads them."""

import json

import numpy as np
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.results import best, best_page, published
from workflow_scripts.results.table import read_table

NAME = "cleaning_poisoned_cc6m_{}_3000poison_clean_{}_lr_"


@pytest.fixture
def points(tmp_path):
    """Two series of two runs of three epochs each."""
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


def test_runs_stand_one_after_another(points):
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


def test_the_table_of_the_best_gives_the_best_below_5_percent(points):
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
    with pytest.raises(StepError, match="'mine' does not say what it is"):
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
        ("[]", "must hold"),
        ('{"%s": [[0.1], [0.1, 0.2]]}', "as many ASRs as accuracies"),
        ('{"%s": [[], []]}', "as many ASRs as accuracies"),
        ('{"%s": [[10.0], [24.0]]}', "fractions"),
        ('{"%s": [["a"], [0.2]]}', "two lists of numbers"),
        ('{"%s": 3}', "two lists of numbers"),
    ],
)
def test_another_shape_is_one_clear_sentence(points, content, said):
    points.write_text(content.replace("%s", NAME.format("mmcl", "ssl")))
    with pytest.raises(StepError, match=said):
        read(points)


def test_a_last_run_that_is_shorter_is_kept(points):
    name = NAME.format("mmcl", "ssl")
    points.write_text(json.dumps({name: [[0.1] * 4, list(np.linspace(0.1, 0.2, 4))]}))
    table = read(points)
    assert table.groupby("run").size().tolist() == [3, 1]
