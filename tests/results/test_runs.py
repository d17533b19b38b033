"""Runs of other code are marked, wherever the difference comes from."""

import json

import pandas as pd
import pytest

from workflow_scripts.common.code import run_code
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.results import runs

SPEC = {
    "objective": {"mmcl": 1.0},
    "attack": {"trigger": {"name": "random"}},
    "start_change": None,
}


def record(changed=(), dirty=False, resumptions=(), **code):
    files = run_code(SPEC) | dict.fromkeys(changed, "0" * 12)
    return {
        "spec": SPEC,
        "code": {"commit": "abcdef0123", "dirty": dirty, "digest": digest(files), "files": files}
        | code,
        "finished": "2026-01-02T03:04:05+00:00",
        "wall_seconds": 90.0,
        "hardware": {"device": "cpu", "processes": 2},
        "resumptions": list(resumptions),
    }


def unrecorded():
    made = record()
    del made["code"]["files"], made["code"]["digest"]
    return made


def said(*records):
    return " ".join(runs.sentences([runs.code_of(r) for r in records]))


def test_runs_of_the_present_code_are_said_to_be():
    assert said(record(), record()) == (
        "All 2 runs are of the present code (made at commit abcdef0)."
    )
    assert "abcdef0 + changes" in said(record(dirty=True))


def test_older_code_is_named_with_what_changed_since():
    text = said(record(), record(["training/optimizer.py"]), record(["training/optimizer.py"]))
    assert (
        "The 3 runs are not of one code; what differs between them: training/optimizer.py." in text
    )
    assert "2 of 3 runs are of other code than the present" in text
    alike = said(record(["training/optimizer.py"]), record(["training/optimizer.py"]))
    assert "not of one code" not in alike
    assert "2 of 2 runs are of other code" in alike


def test_what_was_not_recorded_is_not_taken_for_the_present():
    assert "1 of 2 runs did not record the code" in said(record(), unrecorded())


def test_a_run_that_went_on_from_other_code_is_marked():
    same = record()["code"]["digest"]
    assert not runs.code_of(record(resumptions=[{"code_before": same}])).marked
    assert runs.code_of(record(resumptions=[{"code_before": "0" * 8}])).marked
    assert "1 of 1 runs went on from a checkpoint of other code" in said(
        record(resumptions=[{"code_before": "0" * 8}])
    )


@pytest.fixture
def table(tmp_path):
    rows = []
    for name, made in (("new", record()), ("old", record(["model/models.py"]))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(made))
        rows.append(
            {"run": name, "kind": "cleaning", "start": "s", "start_label": "<b>", "defence": "SSL",
             "learning_rate": 0.001, "objective.ssl": 2, "folder": folder}
        )  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path


def test_the_page_marks_them_and_the_caption_says_so(table):
    runs.main(["--runs", f"{table}/runs.csv", "--output", f"{table}/runs.html"])
    page = (table / "runs.html").read_text()
    rows = [line for line in page.splitlines() if line.startswith("<tr") and "<td>" in line]
    assert [row.startswith('<tr class="marked">') for row in rows] == [False, True]
    assert "changed since: model/models.py" in rows[1]
    assert "the present" in rows[0]
    assert "SSL weight" in page
    assert "<b>" not in page
    assert "1 of 2 runs are of other code" in (table / "runs.rst").read_text()


def test_a_run_that_is_not_there_is_one_sentence(table):
    (table / "old" / "run.json").unlink()
    with pytest.raises(StepError, match=r"old/run\.json does not exist; do the run first"):
        runs.main(["--runs", f"{table}/runs.csv", "--output", f"{table}/runs.html"])
