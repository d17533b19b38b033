"""Ending in good order: a signal or the clock asks, and the trainer stops after a step."""

import os
import re
import signal
import subprocess
import sys
import time
from types import FrameType

from workflow_scripts.common.errors import StepError


def minutes_left(margin: float) -> float | None:
    """Return the minutes until ``margin`` minutes before the end of the Slurm job around us.

    At least half of what is left is given, however short that is. None outside of Slurm, in a job
    without a limit, and, with a warning, where Slurm does not answer.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"warning: the time limit of job {job} is not known: {error}", file=sys.stderr)
        return None
    parts = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", done.stdout.strip())
    if parts is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    left = (days * 24 + hours) * 60 + minutes + seconds / 60
    return max(left - margin, left / 2)


class Stopped(StepError):
    """The run ends early because it was asked to; every process raises it, one should print it."""


class Stop:
    """Remembers that the run should end, and why.

    Use as a context: within it SIGTERM and SIGUSR1 (Slurm's and torchrun's ways to announce the
    end), SIGINT (Ctrl-C) and the clock ask for an end instead of ending the process. Signals may
    come twice, from the terminal and from torchrun.

    Args:
        minutes: End in good order after so many; None leaves it to signals.
    """

    def __init__(self, minutes: float | None = None):
        self._signal: str | None = None
        self._deadline = None if minutes is None else time.monotonic() + minutes * 60
        self._minutes = minutes

    def __enter__(self) -> "Stop":
        self._previous = {
            number: signal.signal(number, self._remember)
            for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self._signal = signal.Signals(number).name

    @property
    def reason(self) -> str | None:
        """Why the run should end, or None while it should not."""
        if self._signal is not None:
            return self._signal
        if self._deadline is not None and time.monotonic() > self._deadline:
            return f"the end of its {self._minutes:.4g} minutes"
        return None
