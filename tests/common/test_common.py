import errno
import re
import subprocess
import sys

import pytest

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, atomic_folder, digest, read_json
from workflow_scripts.common.seeds import generator, seed_for


def _said(error):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        run_step(main)
    return end.value.code


def test_what_a_user_can_put_right_is_one_sentence_and_exit_1():
    assert _said(StepError("there is no list x.tsv")) == "error: there is no list x.tsv"
    assert _said(OSError(errno.ENOSPC, "No space left on device")).startswith(
        "error: the disk is full"
    )
    assert _said(StepError("there is no x\n\x1b[2J\udcff.tsv")) == "error: there is no x  [2J .tsv"
    assert _said(FileNotFoundError(errno.ENOENT, "No such file", "x.tsv")) == (
        "error: x.tsv: No such file"
    )


def test_a_defect_is_one_sentence_after_its_traceback(capsys):
    said = _said(KeyError("x"))
    assert re.fullmatch(r"error: .* failed with KeyError: 'x'\. This is a defect of .* above", said)
    assert "in main\n    raise error\nKeyError: 'x'" in capsys.readouterr().err
    said = _said(ValueError("many\nlines " * 1000))
    assert "\n" not in said
    assert len(said) < 500
    assert _said(MemoryError()).startswith("error: there is too little memory")


@pytest.mark.parametrize("text", [b'{"a": 1', b"", b"\xff{}", b"[" * 10**6])
def test_a_damaged_json_file_is_named(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(StepError, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")


def test_a_file_is_whole_or_absent(tmp_path):
    path = tmp_path / "sub" / "x.txt"
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []
    with atomic(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_a_folder_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "folder"
    with atomic_folder(path) as temporary:
        (temporary / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as temporary:
        (temporary / "new").touch()
        raise ZeroDivisionError
    assert [file.name for file in path.iterdir()] == ["old"]
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]


def test_seeds_are_the_same_in_every_process_and_differ_by_name():
    script = "from workflow_scripts.common.seeds import seed_for; print(seed_for(0, 'a', 1))"
    other = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert int(other.stdout) == seed_for(0, "a", 1)
    assert (
        len({seed_for(0, "a", 1), seed_for(1, "a", 1), seed_for(0, "a1"), seed_for(0, "b", 1)}) == 4
    )
    assert generator(3, "x").integers(2**62) == generator(3, "x").integers(2**62)


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_neutral_keys_and_the_spelling_of_numbers_are_not_in_a_digest():
    assert digest({"a": {"b": 1.0, "new": None}}) == digest({"a": {"b": 1}})
    assert digest({"a": 1, "new": {"x": None}}) == digest({"a": 1})
    assert digest({"a": [1, None]}) != digest({"a": [1]})
    assert digest({"a": True}) != digest({"a": 1})
    assert digest({"a": 0}) != digest({})
