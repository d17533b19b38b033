"""Digests of the code of runs and variants."""

import shutil

import pytest

from workflow_scripts.common import code_version
from workflow_scripts.common.files import digest

SPEC = {
    "objective": {"mmcl": 1.0},
    "attack": {"trigger": {"name": "yellow"}},
    "start_change": {"name": "shrink_and_perturb"},
}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    folder = tmp_path / "workflow_scripts"
    shutil.copytree(code_version.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "FOLDER", folder)
    return folder


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("training/optimizer.py", True),
        ("training/losses/mmcl.py", True),
        ("training/losses/_term.py", True),
        ("training/augmentations/plain.py", True),
        ("training/augmentations/autoaugment.py", False),
        ("training/start_changes/shrink_and_perturb.py", True),
        ("poison/triggers/yellow.py", True),
        ("data/images.py", True),
        ("poison/triggers/_place.py", True),
        ("training/losses/siglip.py", False),
        ("training/losses/a_new_one.py", False),
        ("poison/triggers/random.py", False),
        ("poison/victims.py", False),
        ("results/figure.py", False),
    ],
)
def test_an_edit_flags_the_runs_that_execute_it(tree, file, matters):
    record = {"code": {"files": code_version.run_code(SPEC)}, "spec": SPEC}
    assert code_version.changed_since(record) == []
    with (tree / file).open("a") as text:
        text.write("\nEDITED = True\n")
    assert code_version.changed_since(record) == ([file] if matters else [])


def test_an_edited_augmentation_flags_runs_that_recorded_it(tree):
    spec = SPEC | {"objective": {"mmcl": 1.0, "ssl": 1.0}}
    files = code_version.run_code(spec)
    old = code_version.run_code(spec, augmentations=False)
    records = [{"code": {"files": recorded}, "spec": spec} for recorded in (files, old)]
    assert [code_version.changed_since(record) for record in records] == [[], []]
    edited = "training/augmentations/autoaugment.py"
    (tree / edited).write_text((tree / edited).read_text() + "\nEDITED = True\n")
    assert [code_version.changed_since(record) for record in records] == [[edited], []]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"""Linear', '"""A straight'),
        ("import math", "# a comment\nimport math"),
        ("return f(x, 1)", "return f(\n        x,\n        1,\n    )"),
    ],
)
def test_comments_docstrings_and_layout_do_not_change_digests(tmp_path, before, after):
    text = 'import math\n\n\ndef g(f, x):\n    """Linear in x."""\n    return f(x, 1)\n'
    own = tmp_path / "term.py"
    own.write_text(text)
    then = code_version.code_digests([own])
    own.write_text(text.replace(before, after))
    assert own.read_text() != text
    assert code_version.code_digests([own]) == then
    own.write_text(text.replace("1", "2"))
    assert code_version.code_digests([own]) != then


def test_imports_of_user_files_are_followed(tree, tmp_path):
    own = tmp_path / "term.py"
    own.write_text("def f():\n    from workflow_scripts.poison import victims\n")
    assert set(code_version.code_digests([own])) > {
        str(own),
        "poison/victims.py",
        "common/seeds.py",
    }


def test_user_files_are_identified_by_their_content(tmp_path):
    own = tmp_path / "term.py"
    own.write_text("one")
    spec = SPEC | {"objective": {str(own): 1.0}}
    record = {"code": {"files": code_version.run_code(spec)}, "spec": spec}
    own.write_text("two")
    assert code_version.changed_since(record) == [str(own)]
    own.unlink()
    assert code_version.changed_since(record) == [str(own)]


def test_a_record_without_digests_is_not_assumed_to_be_current():
    assert (
        code_version.changed_since({"code": {"commit": "abc", "dirty": False}, "spec": SPEC})
        is None
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("random", "36eff432"),
        ("yellow", "3e0811f2"),
        ("blended", "bafc7370"),
        ("sig", "7616b3a1"),
        ("warped", "8587e822"),
    ],
)
def test_digests_of_published_triggers_are_fixed(name, expected):
    # This digest is in the params of rule `poison`. If it changes, all data poisoned with the
    # trigger is poisoned again and all models are retrained on it. Put new helpers of triggers into
    # separate modules.
    assert digest(code_version.variant_code("trigger", name)) == expected


def test_each_equivalent_file_has_the_digest_that_finished_steps_have_recorded():
    files = code_version.FOLDER.rglob("*.py")
    digests = {code_version._read(file, 0)[0]: code_version._digest(file) for file in files}
    for own, recorded in code_version._EQUIVALENT.items():
        assert digests[own] == recorded
