"""Worker processes that end when the process that wanted their work is gone, however it ended."""

import contextlib
import fcntl
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.util import Finalize
from pathlib import Path

_FOLDER = "cbw"  # short: the path of a socket has 107 characters at most
_BEING_MADE = 60.0  # seconds for which a folder may be there without its lock


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
    use_own_temporary_folder()
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


def use_own_temporary_folder() -> None:
    """Have multiprocessing keep its sockets in a folder that does not outlive a killed process.

    The folder is removed when the process ends; that of a process that was killed is removed by the
    next one that calls this. Processes that are started afterwards use the same folder.
    """
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir"):
        return
    prefix = f"{_FOLDER}-{os.getuid()}-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            _remove_if_left(left)
    folder = tempfile.mkdtemp(prefix=prefix)
    # Held, with the lock, for as long as this process or one of its forks lives.
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
    Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-100)
    config["tempdir"] = folder


def _remove_if_left(folder: Path) -> None:
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        found = os.fstat(place)
        if found.st_uid == os.getuid() and time.time() - found.st_ctime > _BEING_MADE:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(place)


def _begin(initializer: Callable, initargs: tuple) -> None:
    begin_worker()
    initializer(*initargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only what was started runs this
    parent.join()
    os._exit(1)
