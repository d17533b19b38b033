"""Worker processes that end with their parent process, even if it is killed."""

import contextlib
import fcntl
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver
from multiprocessing.util import Finalize
from pathlib import Path

_FOLDER = "cbw"  # short, because the path of a socket is limited to 107 characters
_CREATION_SECONDS = 60.0  # time for which a new folder may exist without its lock


def worker_pool(
    workers: int, initializer: Callable = bool, initargs: tuple = (), preload: Sequence[str] = ()
) -> ProcessPoolExecutor:
    """Return a pool of worker processes that watch their parent.

    Workers of a standard pool would outlive a killed parent: they finish their task and then wait
    forever.

    Args:
        workers: Number of processes.
        initializer: Called in each process before its first task.
        initargs: Arguments of ``initializer``.
        preload: Modules that are slow to import; they are imported once for all workers.
    """
    use_own_temporary_folder()
    context = multiprocessing.get_context("forkserver")
    if preload:
        context.set_forkserver_preload(list(preload))
    forkserver.ensure_running()  # imports the modules while the caller goes on
    return ProcessPoolExecutor(workers, context, _begin, (initializer, initargs))


def loader_workers(cores: int, device: str) -> int:
    """Return how many loader processes to start beside a process that runs a model.

    Args:
        cores: CPU cores of the process.
        device: Type of the model's device. With a GPU, decoding images is the bottleneck, so that
            all cores but one load; on a CPU, it is the model, so that one does.
    """
    return max(0, cores - 1 if device == "cuda" else min(cores - 1, 1))


def begin_worker() -> None:
    """Make this process end with its parent, and silently on Ctrl-C.

    Ctrl-C reaches all processes, and the parent reports it.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def use_own_temporary_folder() -> None:
    """Make multiprocessing keep its sockets in a folder that is cleaned up even after a kill.

    The folder is removed when the process ends. If the process is killed, the next process that
    calls this function removes it. Child processes use the same folder.
    """
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    if config.get("tempdir"):
        return
    prefix = f"{_FOLDER}-{os.getuid()}-"
    for other in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            _remove_if_stale(other)
    folder = tempfile.mkdtemp(prefix=prefix)
    # The lock is held as long as this process or one of its forks lives.
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_SH)
    Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-100)
    config["tempdir"] = folder


def _remove_if_stale(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        status = os.fstat(descriptor)
        if status.st_uid == os.getuid() and time.time() - status.st_ctime > _CREATION_SECONDS:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _begin(initializer: Callable, initargs: tuple) -> None:
    begin_worker()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the workers share the cores
    initializer(*initargs)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # only called in child processes
    parent.join()
    os._exit(1)
