"""Helpers for benchmarks: measure the cost of a piece of work, and print rows of the table.

A benchmark is a module of this folder with a docstring, `--help`, and a baseline that is measured
in the same run. `python -m benchmarks` runs those listed in `benchmarks/__main__.py`.
"""

import contextlib
import ctypes
import os
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HEADER = "| benchmark | ours | baseline | unit | ratio |"
_PR_SET_CHILD_SUBREAPER = 36
_RULE = "|---|---:|---:|---|---:|"


@dataclass(frozen=True)
class Cost:
    """The cost of a piece of work.

    Attributes:
        wall: Wall time in seconds.
        cpu: CPU time of all processes in seconds; barely depends on the load of the machine.
        peak: Peak resident memory of the largest process in bytes.
    """

    wall: float
    cpu: float
    peak: int


def cost_of(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Call a function in a forked process and return the cost of the call.

    Processes started by the function are included, even if it does not wait for them. The peak
    memory is at least that of the caller, which should therefore be small.

    Raises:
        RuntimeError: The function raised an error, which has been printed.
    """
    start = time.perf_counter()
    process = os.fork()
    if not process:
        os._exit(_call(function, arguments))
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - start
    if status:
        raise RuntimeError(f"failed: {getattr(function, '__name__', function)}{arguments}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def cost_of_command(command: list[str], **options: Any) -> Cost:
    """Run a command with ``subprocess.run`` and return its cost as :func:`cost_of` does.

    Raises:
        RuntimeError: The command failed.
    """
    return cost_of(lambda: subprocess.run(command, check=True, **options))


def cpu_seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Call a function in this process; return the CPU time of all threads in seconds."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def header() -> None:
    """Print the header of the table."""
    print(HEADER, _RULE, sep="\n", flush=True)


def row(name: str, ours: float, plain: float, unit: str) -> None:
    """Print a row of the table; a ratio above 1 means that this project is better.

    Args:
        name: What is measured, and its size.
        ours: Value of this project.
        plain: Value of the baseline, described by ``name`` or the benchmark's docstring.
        unit: Unit of a rate (contains ``/s``, higher is better) or of a cost (lower is better).
    """
    ratio = ours / plain if "/s" in unit else plain / ours
    print(f"| {name} | {_shown(ours)} | {_shown(plain)} | {unit} | {ratio:.2f} |", flush=True)


def rows(name: str, ours: Cost, plain: Cost) -> None:
    """Print the three rows of two costs: wall time, processor time, peak memory."""
    row(f"{name}: wall", ours.wall, plain.wall, "s")
    row(f"{name}: processor", ours.cpu, plain.cpu, "s")
    row(f"{name}: peak memory", ours.peak / 1e9, plain.peak / 1e9, "GB")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _call(function: Callable[..., Any], arguments: tuple) -> int:
    """Call a function, wait for all its remaining processes, and return an exit status."""
    # Orphans, such as a pool's fork server, become children of this process and are measured too.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        return 1
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    return 0
