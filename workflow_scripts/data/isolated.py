"""Run a function in a child process, so that malicious input cannot take down the caller.

Image decoders are large C libraries and their input is untrusted. A crash, an endless loop or
excessive memory use only fails one call; the next call starts a new child.
"""

import contextlib
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from workflow_scripts.common.workers import begin_worker


class Crashed(Exception):
    """The child process died during a call."""


class OverBudget(Exception):
    """A call exceeded its time or memory limit and was aborted."""


class Isolated:
    """Calls ``function`` in a child process, which is forked at once and again after each failure.

    Create it before starting threads: a fork copies their locks in whatever state they are.

    Args:
        function: Function with picklable arguments and results. Pickles are exchanged between
            these two processes only.
        seconds: Time limit of a call.
        memory: Memory in bytes that the child may allocate after it has started; enforced on Linux
            only.
    """

    def __init__(self, function: Callable, seconds: float, memory: int):
        self._function, self._seconds, self._memory = function, seconds, memory
        self._context = multiprocessing.get_context("fork")
        self._child: ForkProcess | None = None
        self._start()

    def __call__(self, *arguments: Any) -> Any:
        """Return ``function(*arguments)``, or raise what it raises.

        Raises:
            Crashed: The child process died.
            OverBudget: The call exceeded its time or memory limit.
        """
        child = self._start() if self._child is None else self._child
        try:
            self._pipe.send(arguments)
            if not self._pipe.poll(self._seconds):
                self.close()
                raise OverBudget(f"more than {self._seconds:g} seconds")
            result = self._pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            child.join(self._seconds)
            code = child.exitcode
            self.close()
            status = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
            raise Crashed(status) from error
        if isinstance(result, MemoryError):
            raise OverBudget(f"more than {self._memory >> 20} MB of memory")
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """Kill the child process."""
        if self._child is not None:
            self._pipe.close()
            self._child.kill()
            self._child.join()
            self._child = None

    def _start(self) -> ForkProcess:
        self._pipe, child_end = self._context.Pipe()
        arguments = (child_end, self._pipe, self._function, self._memory)
        child = self._context.Process(target=_serve, args=arguments, daemon=True)
        self._child = child
        child.start()
        # Now only the child holds the other end, so its death closes the pipe.
        child_end.close()
        return child


def _serve(pipe: Connection, caller_end: Connection, function: Callable, memory: int) -> None:
    caller_end.close()
    begin_worker()
    _limit_memory(memory)
    # The caller closes its end when it is done.
    with contextlib.suppress(EOFError, OSError):
        while True:
            arguments = pipe.recv()
            try:
                result = function(*arguments)
            except Exception as error:
                result = error
            pipe.send(result)


def _limit_memory(memory: int) -> None:
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
