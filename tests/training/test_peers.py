"""A process that dies or hangs ends the whole job in the stated time, with a clear message."""

import os
import signal
import time

import pytest

# Time enough to be interrupted.
SLOW = """
import time
from workflow_scripts.training.losses import mmcl

class Loss(mmcl.Loss):
    def forward(self, features):
        time.sleep(0.2)
        return super().forward(features)
"""


@pytest.mark.parametrize(("number", "longest"), [(signal.SIGKILL, 15), (signal.SIGSTOP, 30)])
def test_the_others_end_with_a_message_and_a_checkpoint_stays(runs, capfd, number, longest):
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
    # 0.1 minutes, and what a busy machine needs.
    assert waited < longest
    assert "has died or has not answered for 0.1 minutes" in capfd.readouterr().out
    assert list(checkpoints.glob("step-*"))
