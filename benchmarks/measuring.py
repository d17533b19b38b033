"""What all benchmarks share: the cost of a piece of work, and a row of the table.

A benchmark is a module of this folder with a docstring, `--help`, and the plain way measured in
the same run. `python -m benchmarks` runs those listed in `benchmarks/__main__.py`.
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

HEADER = "| benchmark | ours | plain way | unit | ratio |"
_PR_SET_CHILD_SUBREAPER = 36
_RULE = "|---|---:|---:|---|---:|"


@dataclass(frozen=True)
class Cost:
    """What a piece of work took.

    Attributes:
        wall: Seconds that passed.
        cpu: Seconds of processor time, of all its processes. Barely depends on the load.
        peak: Resident memory of its largest process, in bytes.
    """

    wall: float
    cpu: float
    peak: int


def cost_of(function: Callable[..., Any], *arguments: Any) -> Cost:
    """Call a function in a forked process and return the cost of the call.

    Processes that it starts count too, whether it waits for them or not.
    Its peak is at least the memory of the caller, which therefore holds little.

    Raises:
        RuntimeError: It raised an error, which has been printed.
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
    """Run a command, as ``subprocess.run`` does, and return the cost as :func:`cost_of` does.

    Raises:
        RuntimeError: It failed.
    """
    return cost_of(lambda: subprocess.run(command, check=True, **options))


def cpu_seconds(function: Callable[..., Any], *arguments: Any) -> float:
    """Call a function in this process; return the processor time of all of its threads."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


def header() -> None:
    """Print the table's head."""
    print(HEADER, _RULE, sep="\n", flush=True)


def row(name: str, ours: float, plain: float, unit: str) -> None:
    """Print a row of the table; the ratio says how many times better ours is.

    Args:
        name: What is measured, and of what size.
        ours: The project's value.
        plain: That of the plain way, which ``name`` or the benchmark's docstring describes.
        unit: A rate (with ``/s``: more is better) or a cost (less is better).
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
    """Call a function, wait for all processes that it leaves, and return an exit code."""
    # Orphans, such as a pool's fork server, become children of this process: they count then.
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
