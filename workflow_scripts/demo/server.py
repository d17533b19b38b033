"""Serve the demo's data over HTTP on the loopback interface while a command runs.

    python -m workflow_scripts.demo.server --world results/demo/world -- COMMAND...

uses a free port, runs COMMAND as a child process, and exits with its exit code. The server runs in
this process; when the process ends for any reason, the command ends as well. The command accesses
the server as an HTTP proxy (the environment variable http_proxy, which urllib, requests, curl and
wget respect), so the URLs http://demo.invalid/... do not depend on the port, and the same list
always yields the same files. Without a command, the server runs until Ctrl-C, for inspection.
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
from workflow_scripts.demo.answers import DemoServer
from workflow_scripts.demo.behaviours import LIST

_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_GLANCE = 0.5  # seconds between checks that the parent is alive
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def main(arguments: list[str] | None = None) -> None:
    """Read the command line, serve, and exit with the command's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        usage="%(prog)s --world WORLD -- COMMAND ...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--world", type=Path, required=True, help="folder written by demo.world")
    options = parser.parse_args(arguments[:split])
    sys.exit(serve(options.world, arguments[split + 1 :]))


def serve(world: Path, command: list[str]) -> int:
    """Serve the data while a command runs; without one, until interrupted or the parent ends.

    Returns:
        The command's exit code; 128 + n for a command killed by signal n.

    Raises:
        StepError: The folder does not contain the data, or the command does not exist.
    """
    parent = os.getppid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Signals ignored because of nohup or a background shell remain ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    # The child is started before any thread, because forking is safe only then. Connections wait
    # in the open port's queue until the server thread runs.
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
def _bound(world: Path) -> Iterator[DemoServer]:
    server = DemoServer(world)
    try:
        yield server
    finally:
        server.closing.set()
        server.server_close()


@contextlib.contextmanager
def _running(command: list[str], address: str) -> Iterator[subprocess.Popen | None]:
    """Run a command that uses the server as its HTTP proxy; terminate it on exit."""
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
        raise StepError(f"the command {command[0]!r} does not exist") from error
    try:
        yield child
    finally:
        _end_group(child)


def _end_group(child: subprocess.Popen) -> None:
    """Terminate a command and its child processes."""
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
