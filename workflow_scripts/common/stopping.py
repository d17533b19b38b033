"""Graceful termination: the trainer stops after a step when a signal or a time limit demands it."""

import os
import re
import signal
import subprocess
import sys
import time
from types import FrameType

from workflow_scripts.common.errors import StepError


def minutes_left(margin: float) -> float | None:
    """Return the minutes until ``margin`` minutes before the time limit of the current Slurm job.

    The result is at least half of the remaining time. It is None outside of Slurm, in a job without
    a time limit, and (with a warning) if Slurm does not respond.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    command = ["squeue", "--noheader", "--jobs", job, "--format", "%L"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"warning: cannot get the time limit of job {job}: {error}", file=sys.stderr)
        return None
    parts = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", done.stdout.strip())
    if parts is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    remaining = (days * 24 + hours) * 60 + minutes + seconds / 60
    return max(remaining - margin, remaining / 2)


class Stopped(StepError):
    """The run was asked to end early. All processes raise it, and one should print it."""


class Stop:
    """Records requests to end the run.

    Use it as a context manager. Inside the context, SIGTERM and SIGUSR1 (sent by Slurm and torchrun
    to announce the end), SIGINT (Ctrl-C) and the time limit set :attr:`reason` instead of ending
    the process. Signals may arrive twice, from the terminal and from torchrun.

    Args:
        minutes: Time limit; None for no limit.
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
        """The reason why the run should end, or None."""
        if self._signal is not None:
            return self._signal
        if self._deadline is not None and time.monotonic() > self._deadline:
            return f"the time limit of {self._minutes:.4g} minutes"
        return None
