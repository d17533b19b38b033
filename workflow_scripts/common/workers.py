"""Worker processes that end when the process that wanted their work is gone, however it ended."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor


def worker_pool(
    workers: int, initializer: Callable = bool, initargs: tuple = (), preload: Sequence[str] = ()
) -> ProcessPoolExecutor:
    """Return a pool of ``workers`` processes.

    Without the watch, the workers of a process that was killed would go on for as long as their
    task lasts, and then wait for ever.

    Args:
        workers: Number of processes.
        initializer: Called in each of them before its first task.
        initargs: Arguments of ``initializer``.
        preload: Modules whose import takes long; they are imported once, for all workers.
    """
    context = multiprocessing.get_context("forkserver")
    if preload:
        context.set_forkserver_preload(list(preload))
    return ProcessPoolExecutor(workers, context, _begin, (initializer, initargs))


def begin_worker() -> None:
    """Make this process end with the one that started it, and without a word at Ctrl-C.

    Ctrl-C reaches all processes; the one that wanted the work says that it was stopped.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _begin(initializer: Callable, initargs: tuple) -> None:
    begin_worker()
    initializer(*initargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only what was started runs this
    parent.join()
    os._exit(1)
