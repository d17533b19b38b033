"""Runs made by other code versions are flagged, whatever the source of the difference."""

import json

import pandas as pd
import pytest

from workflow_scripts.common.code_version import run_code
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import digest
from workflow_scripts.results import run_table

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
    return " ".join(run_table.sentences([run_table.code_of(r) for r in records]))


def test_runs_of_the_current_code_are_reported_as_such():
    assert said(record(), record()) == (
        "All 2 runs were made by the current code (commit abcdef0)."
    )
    assert "abcdef0 + changes" in said(record(dirty=True))


def test_older_code_is_reported_with_the_changed_files():
    text = said(record(), record(["training/optimizer.py"]), record(["training/optimizer.py"]))
    assert (
        "The 3 runs were made by different code versions; files that differ: training/optimizer.py."
        in text
    )
    assert "2 of 3 runs were made by an older version" in text
    alike = said(record(["training/optimizer.py"]), record(["training/optimizer.py"]))
    assert "different code versions" not in alike
    assert "2 of 2 runs were made by an older version" in alike


def test_unrecorded_code_does_not_count_as_current():
    assert "1 of 2 runs did not record the code" in said(record(), unrecorded())


def test_a_run_resumed_from_another_code_version_is_flagged():
    same = record()["code"]["digest"]
    assert not run_table.code_of(record(resumptions=[{"code_before": same}])).flagged
    assert run_table.code_of(record(resumptions=[{"code_before": "0" * 8}])).flagged
    assert "1 of 1 runs resumed from a checkpoint of another version" in said(
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


def test_flagged_runs_are_highlighted_and_named_in_the_caption(table):
    run_table.main(["--runs", f"{table}/runs.csv", "--output", f"{table}/runs.html"])
    page = (table / "runs.html").read_text()
    rows = page.partition("<tbody>")[2].split("<tr")[1:]
    assert [row.startswith(' class="marked">') for row in rows] == [False, True]
    assert "changed since: model/models.py" in rows[1]
    assert "<td>current</td>" in rows[0]
    assert "SSL weight" in page
    assert "<b>" not in page
    assert "1 of 2 runs were made by an older version" in (table / "runs.rst").read_text()


def test_a_missing_run_is_a_clear_error(table):
    (table / "old" / "run.json").unlink()
    with pytest.raises(StepError, match=r"old/run\.json does not exist; finish the run first"):
        run_table.main(["--runs", f"{table}/runs.csv", "--output", f"{table}/runs.html"])
