"""If a process dies or hangs, the whole job ends within the timeout, with a clear message."""

import os
import signal
import time

import pytest

# Leaves enough time for an interruption.
SLOW = """
import time
from workflow_scripts.training.losses import mmcl

class Loss(mmcl.Loss):
    def forward(self, features):
        time.sleep(0.2)
        return super().forward(features)
"""


@pytest.mark.parametrize(("number", "longest"), [(signal.SIGKILL, 15), (signal.SIGSTOP, 30)])
def test_the_other_processes_end_with_an_error_and_keep_a_checkpoint(runs, capfd, number, longest):
    (runs.folder / "slow.py").write_text(SLOW)
    spec = runs.spec(
        objective={str(runs.folder / "slow.py"): 1.0},
        epochs=100,
        checkpoint={"minutes": 0.0, "keep": 2},
    )
    first, second = runs.fork("run", spec, "--timeout", "0.1", processes=2)
    checkpoints = runs.folder / "run" / "checkpoints"
    start = time.monotonic()
    while not list(checkpoints.glob("step-*")) and time.monotonic() - start < 100:
        time.sleep(0.1)
    os.kill(second.pid, number)
    began = time.monotonic()
    first.join(120)
    waited = time.monotonic() - began
    second.kill()
    second.join()
    assert first.exitcode == 1
    # 0.1 minutes, plus a margin for busy machines.
    assert waited < longest
    assert "died or did not respond within 0.1 minutes" in capfd.readouterr().out
    assert list(checkpoints.glob("step-*"))
