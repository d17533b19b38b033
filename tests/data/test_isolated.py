import ctypes
import faulthandler
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workflow_scripts.data.isolated import Crashed, Isolated, OverBudget


def do(what):
    if what == "crash":
        faulthandler.disable()  # pytest's
        ctypes.string_at(0)
    if what == "exit":
        os._exit(3)
    if what == "hang":
        time.sleep(60)
    if what == "swell":
        return len(bytearray(400 << 20))
    if what == "complain":
        raise ValueError("so be it")
    return what


@pytest.fixture
def isolated():
    isolated = Isolated(do, seconds=1, memory=200 << 20)
    yield isolated
    isolated.close()


@pytest.mark.parametrize(
    ("what", "error", "words"),
    [
        ("crash", Crashed, "SIGSEGV"),
        ("exit", Crashed, "exit 3"),
        ("hang", OverBudget, "1 seconds"),
        ("swell", OverBudget, "200 MB"),
        ("complain", ValueError, "so be it"),
    ],
)
def test_a_failure_affects_one_call_only(isolated, what, error, words):
    assert isolated("good") == "good"
    with pytest.raises(error, match=words):
        isolated(what)
    assert isolated("good again") == "good again"


def test_the_child_ends_with_its_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from tests.data.test_isolated import do\n"
        "from workflow_scripts.data.isolated import Isolated\n"
        "isolated = Isolated(do, 60, 1 << 30)\n"
        "print(isolated._child.pid, flush=True)\n"
        "isolated('hang')\n"
    )
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}
    )
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    for _ in range(100):
        # A zombie has ended too; its parent has not waited for it yet.
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")
