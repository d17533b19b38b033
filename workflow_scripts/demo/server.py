"""Serve the demo's world over HTTP on the loopback, well and badly, while a command runs.

    python -m workflow_scripts.demo.server --world results/demo/world -- COMMAND...

takes a free port, runs COMMAND as its child, and ends with it, with its exit code. The server is
this process: nothing of it is left, however it ends, and the command ends with it. The command
reaches the server as its HTTP proxy (the environment variable http_proxy, which urllib, requests,
curl and wget all heed), so that URLs stay http://demo.invalid/... whatever port was free, and the
same list gives the same files each time. Without a command it serves until Ctrl-C, to be looked at.
"""

import argparse
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.demo.answers import WorldServer
from workflow_scripts.demo.behaviours import LIST

_GRACE = 5.0  # seconds between asking a command to end and ending it
_GLANCE = 0.5  # seconds between looks at whether the parent is still there
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, serve, and exit as the command does."""
    arguments = sys.argv[1:] if arguments is None else arguments
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", type=Path, required=True, help="folder that `world` wrote")
    options = parser.parse_args(arguments[:split])
    sys.exit(serve(options.world, arguments[split + 1 :]))


def serve(world: Path, command: list[str]) -> int:
    """Serve a world while a command runs; without one, until the parent or the user ends it.

    Returns:
        The command's exit code; that of a command killed by signal n is 128 + n.

    Raises:
        StepError: The folder holds no world, or there is no such command.
    """
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # What nohup, or a shell in the background, has told us to ignore stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    # The child is started before the first thread: forking is safe then. Until the server
    # thread runs, the open port keeps its callers waiting.
    with _bound(world) as server, _running(command, server.address) as child:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        if child is None:
            print(f"{server.address}/{LIST} until Ctrl-C", flush=True)
        while child is None or child.poll() is None:
            if os.getppid() != parent:
                return 128 + signal.SIGHUP
            if child is None:
                time.sleep(_GLANCE)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_GLANCE)
        return child.returncode if child.returncode >= 0 else 128 - child.returncode


@contextlib.contextmanager
def _bound(world: Path) -> Iterator[WorldServer]:
    server = WorldServer(world)
    try:
        yield server
    finally:
        server.closing.set()
        server.server_close()


@contextlib.contextmanager
def _running(command: list[str], address: str) -> Iterator[subprocess.Popen | None]:
    """Run a command with its HTTP traffic through the server; end all of it on leaving."""
    if not command:
        yield None
        return
    proxies = ("http_proxy", "all_proxy", "no_proxy")
    environment = {k: v for k, v in os.environ.items() if k.lower() not in proxies}
    try:
        child = subprocess.Popen(
            command,
            env={**environment, "http_proxy": address},
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_end_with_parent,  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        raise StepError(f"there is no command {command[0]!r} to run behind the server") from error
    try:
        yield child
    finally:
        _end_group(child)


def _end_group(child: subprocess.Popen) -> None:
    """End a command and what it started."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    run_step(main)
