import errno
import re
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from workflow_scripts.common import code_version
from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.files import atomic, atomic_folder, digest, read_json
from workflow_scripts.common.seeds import generator, seed_for
from workflow_scripts.common.tensor_files import raising_os_errors


def _exit(error):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        run_step(main)
    return end.value.code


def test_errors_that_users_can_fix_are_one_sentence():
    assert _exit(StepError("there is no list x.tsv")) == "error: there is no list x.tsv"
    assert _exit(OSError(errno.ENOSPC, "No space left on device")).startswith(
        "error: the disk is full"
    )
    assert _exit(StepError("there is no x\n\x1b[2J\udcff.tsv")) == "error: there is no x  [2J .tsv"
    assert _exit(FileNotFoundError(errno.ENOENT, "No such file", "x.tsv")) == (
        "error: x.tsv: No such file"
    )


def test_a_bug_is_reported_by_its_traceback_and_one_sentence(capsys):
    text = _exit(KeyError("x"))
    assert re.fullmatch(r"error: .* failed with KeyError: 'x'\. This is a defect of .* above", text)
    assert "in main\n    raise error\nKeyError: 'x'" in capsys.readouterr().err
    text = _exit(ValueError("many\nlines " * 1000))
    assert "\n" not in text
    assert len(text) < 500
    assert _exit(MemoryError()).startswith("error: there is too little memory")


def test_a_step_is_imported_without_garbage_collection_and_runs_with_it(tmp_path):
    code = "from workflow_scripts.common.errors import run_step\nimport gc\nprint(gc.isenabled())\n"
    package = shutil.copytree(code_version.FOLDER, tmp_path / "workflow_scripts")
    (package / "step.py").write_text(code + "run_step(lambda: print(gc.isenabled()))\n")
    command = [sys.executable, "-m", "workflow_scripts.step"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "False\nTrue\n"
    command = [sys.executable, "-c", "import gc, workflow_scripts; print(gc.isenabled())"]
    assert subprocess.check_output(command, cwd=tmp_path, text=True) == "True\n"


@pytest.mark.parametrize("text", [b'{"a": 1', b"", b"\xff{}", b"[" * 10**6])
def test_a_damaged_json_file_is_reported(tmp_path, text):
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(StepError, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")


def test_files_are_written_atomically(tmp_path):
    path = tmp_path / "sub" / "x.txt"
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert list(path.parent.iterdir()) == []
    with atomic(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_folders_are_written_atomically(tmp_path):
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


def test_digests_ignore_neutral_keys_and_the_spelling_of_numbers():
    assert digest({"a": {"b": 1.0, "new": None}}) == digest({"a": {"b": 1}})
    assert digest({"a": 1, "new": {"x": None}}) == digest({"a": 1})
    assert digest({"a": [1, None]}) != digest({"a": [1]})
    assert digest({"a": True}) != digest({"a": 1})
    assert digest({"a": 0}) != digest({})


def test_a_disk_error_is_an_os_error_for_tensors_as_well(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError) as error, raising_os_errors("values"):
            save_file({"a": np.zeros(1000)}, tmp_path / "values")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, heard)
    assert error.value.errno == errno.EFBIG
