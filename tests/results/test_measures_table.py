"""The table of measures contains all numbers of all models, with intervals of shares."""

import pandas as pd
import pytest

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.intervals import binomial
from workflow_scripts.results import measures_table

RUNS = pd.DataFrame(
    [
        ("a", "pretraining", "a", "MMCL", "", 0.1, "not set", "pretraining/a"),
        ("c", "baseline", "a", "MMCL", "", 0.1, "not set", "pretraining/c"),
        ("b", "cleaning", "a", "MMCL", "SSL", 0.01, "7", "cleaning/b"),
    ],
    columns=["run", "kind", "start", "start_label", "defence", "learning_rate", "seed", "folder"],
)
FILES = {
    "probe-1": "probe-1,accuracy,0.25,40,ff\nprobe-1,asr,0.5,30,ff\n",
    "decree-1": "decree-1,pl1,0.0123456,,ff\n",
}


@pytest.fixture
def results(tmp_path):
    rows = []
    for run in RUNS.itertuples():
        for name, text in FILES.items():
            path = tmp_path / "measures" / run.folder / f"{name}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"measure,name,value,of,model_sha256\n{text}")
            label = name.partition("-")[0]
            rows.append((run.run, run.kind, run.start, label, run.folder, name))
    columns = ["run", "kind", "start", "measure", "folder", "id"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "declared.csv", index=False)
    RUNS.to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def _made(results):
    measures_table.main(
        ["--runs", str(results / "runs.csv"), "--declared", str(results / "declared.csv"),
         "--root", str(results), "--output", str(results / "measures.csv")]
    )  # fmt: skip
    return pd.read_csv(results / "measures.csv")


def test_each_number_of_each_model_is_a_row_with_its_interval(results):
    table = _made(results)
    assert len(table) == 3 * 3
    assert table["run"].tolist() == ["a"] * 3 + ["c"] * 3 + ["b"] * 3
    row = table[(table["run"] == "b") & (table["name"] == "asr")].iloc[0]
    assert (row["measure"], row["value"], row["of"], row["seed"]) == ("probe", 0.5, 30, "7")
    assert (row["low"], row["high"]) == pytest.approx(binomial(0.5, 30))
    other = table[table["name"] == "pl1"]
    assert other[["of", "low", "high"]].isna().all(axis=None)


def test_the_formatted_page_has_a_table_per_measure_and_a_row_per_model(results):
    _made(results)
    page = (results / "measures.html").read_text()
    assert page.count("<table>") == 2
    assert page.count("<tr>") == 2 * (1 + 3)
    assert "clean control" in page
    assert "25.0\N{NO-BREAK SPACE}% (14.2–40.2)" in page
    assert "0.01235" in page


def test_a_file_of_another_measure_is_rejected(results):
    (results / "measures/cleaning/b/probe-1.csv").write_text(
        "measure,name,value,of,model_sha256\nprobe-2,accuracy,0.25,40,ff\n"
    )
    with pytest.raises(StepError, match="does not belong to the measure probe-1; delete it"):
        _made(results)
