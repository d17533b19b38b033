"""Ending in good order: a signal or the clock asks, and the trainer stops after a step."""

import signal
import time
from types import FrameType


class Stop:
    """Remembers that the run should end, and why.

    Use as a context: within it SIGTERM and SIGUSR1 (Slurm's and torchrun's ways to announce the
    end) and the clock ask for an end instead of ending the process.

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
            for number in (signal.SIGTERM, signal.SIGUSR1)
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
            return f"the end of its {self._minutes:g} minutes"
        return None
