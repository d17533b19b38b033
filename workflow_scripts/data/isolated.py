"""A function that runs in a child process, so that what it is given cannot take the caller along.

Decoders are large C libraries, and the images come from anywhere: a crash, endless work or too much
memory costs one call, and the next one gets another child.
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
    """The child process died in the call."""


class OverBudget(Exception):
    """The call needed more time or memory than it is allowed, and was ended."""


class Isolated:
    """Calls ``function`` in a child process, which is forked now and after each death.

    Make it before the process has other threads: a fork copies their locks as they are.

    Args:
        function: What is called, with picklable arguments and results. Pickles are exchanged
            between these two processes only.
        seconds: Time that a call may take.
        memory: Bytes that the child may allocate beyond what it has when it starts; enforced on
            Linux only.
    """

    def __init__(self, function: Callable, seconds: float, memory: int):
        self._function, self._seconds, self._memory = function, seconds, memory
        self._context = multiprocessing.get_context("fork")
        self._child: ForkProcess | None = None
        self._start()

    def __call__(self, *arguments: Any) -> Any:
        """Return ``function(*arguments)``, or raise what it raises.

        Raises:
            Crashed: The child died.
            OverBudget: The time is up, or there is no more memory.
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
            how = signal.Signals(-code).name if code is not None and code < 0 else f"exit {code}"
            raise Crashed(how) from error
        if isinstance(result, MemoryError):
            raise OverBudget(f"more than {self._memory >> 20} MB of memory")
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._pipe.close()
            self._child.kill()
            self._child.join()
            self._child = None

    def _start(self) -> ForkProcess:
        self._pipe, theirs = self._context.Pipe()
        arguments = (theirs, self._pipe, self._function, self._memory)
        child = self._context.Process(target=_serve, args=arguments, daemon=True)
        self._child = child
        child.start()
        # Only the child has the other end now: its death is the end of the file.
        theirs.close()
        return child


def _serve(pipe: Connection, callers: Connection, function: Callable, memory: int) -> None:
    callers.close()
    begin_worker()
    _limit_memory(memory)
    # The other end is closed when there is nothing more to do.
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
