"""Temporary folders of multiprocessing are removed soon after their processes have ended."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workflow_scripts.common import workers

ROOT = Path(__file__).parents[2]
POOL = """
import sys, time
from workflow_scripts.common.workers import worker_pool
with worker_pool(1) as pool:
    pool.submit(time.sleep, 0).result()
    print("ready", flush=True)
    sys.stdin.read()
"""


def start(folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        [sys.executable, "-c", POOL],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def short():
    """A folder with a short path, as required for sockets."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def at_once(monkeypatch):
    """Remove unlocked folders immediately instead of after a minute."""
    monkeypatch.setattr(workers, "_CREATION_SECONDS", -1.0)


@pytest.mark.usefixtures("at_once")
def test_only_folders_of_killed_processes_are_removed(short):
    killed, living = start(short), start(short)
    folders = list(short.iterdir())
    assert len(folders) == 2
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    for folder in folders:
        with contextlib.suppress(BlockingIOError):
            workers._remove_if_stale(folder)
    assert len(list(short.iterdir())) == 1
    living.communicate("")
    assert living.returncode == 0
    assert list(short.iterdir()) == []


@pytest.mark.usefixtures("at_once")
def test_foreign_links_are_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="Not a directory"):
        workers._remove_if_stale(tmp_path / "link")
    assert (tmp_path / "precious").is_dir()
