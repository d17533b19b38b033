"""The demo's server over HTTP: its responses are as specified, and it always terminates."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from workflow_scripts.common.files import read_json
from workflow_scripts.demo.answers import huge_image

SERVER = [sys.executable, "-m", "workflow_scripts.demo.server", "--world"]
OUTCOMES = {
    "good": "image",
    "moved": "image",
    "disallowed": "image that says noai",
    "missing": "404",
    "unavailable": "503",
    "silent": "timeout",
    "stalled": "timeout",
    "circular": "302",
    "to_a_file": "302",
    "cut_off": "cut off",
    "endless": "too long",
    "html": "no image",
    "truncated": "broken image",
    "empty": "empty",
    "tiny": "tiny",
    "huge": "huge",
}
SAY_ADDRESS_AND_WAIT = (
    "import os, time; print(os.environ['http_proxy'], os.getpid(), flush=True); time.sleep(60)"
)


def behind(world, *code, **options):
    return subprocess.Popen(
        [*SERVER, str(world), "--", sys.executable, *code], stdout=subprocess.PIPE, text=True,
        **options,
    )  # fmt: skip


def gone(address: str, pid: int) -> bool:
    """Return whether address and process id become unused within a few seconds."""
    port = int(address.rpartition(":")[2])
    for _ in range(50):
        with socket.socket() as caller:
            listening = caller.connect_ex(("127.0.0.1", port)) == 0
        if not listening and not alive(pid):
            return True
        time.sleep(0.1)
    return False


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_plain_client_observes_the_stated_behaviours(world):
    client = behind(world, str(Path(__file__).with_name("plain_client.py")))
    seen = Counter(map(tuple, json.loads(client.communicate(timeout=60)[0])))
    rows = read_json(world / "truth.json")["rows_by_behaviour"]
    odd_captions = ("no_caption", "no_letters", "tab", "quotes", "emoji", "long", "duplicate")
    expected = Counter({(kind, OUTCOMES[kind]): rows[kind] for kind in OUTCOMES})
    expected["good", "image"] += sum(rows[kind] for kind in odd_captions)
    assert seen == expected
    assert client.returncode == 0


def test_the_list_is_served_unchanged_regardless_of_the_users_proxies(world):
    code = "import urllib.request as r; print(r.urlopen('http://demo.invalid/list.csv').status)"
    environment = os.environ | {"no_proxy": "*", "HTTP_PROXY": "http://nobody.invalid:1"}
    assert behind(world, "-c", code, env=environment).communicate(timeout=30)[0] == "200\n"


def test_the_exit_code_is_the_commands(world):
    failing = behind(world, "-c", "raise SystemExit(7)")
    assert failing.wait(30) == 7
    killed = behind(world, "-c", "import os; os.kill(os.getpid(), 9)")
    assert killed.wait(30) == 128 + 9


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_server_and_command_end_when_the_server_is_signalled(world, number):
    server = behind(world, "-c", SAY_ADDRESS_AND_WAIT, stderr=subprocess.PIPE)
    address, pid = server.stdout.readline().split()
    server.send_signal(number)
    assert server.wait(30) in (128 + number, -signal.SIGKILL)
    assert gone(address, int(pid))
    assert server.stderr.read() == ""


def test_server_and_command_end_when_the_parent_is_killed(world):
    command = [*SERVER, str(world), "--", sys.executable, "-c", SAY_ADDRESS_AND_WAIT]
    start = f"import subprocess; subprocess.run({command!r})"
    parent = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    address, pid = parent.stdout.readline().split()
    parent.kill()
    assert gone(address, int(pid))


def test_child_processes_of_the_command_end_too(world):
    code = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", {SAY_ADDRESS_AND_WAIT!r}])
time.sleep(2)
"""
    server = behind(world, "-c", code)
    address, pid = server.stdout.readline().split()
    assert server.wait(30) == 0
    assert gone(address, int(pid))


def test_a_folder_without_data_is_a_clear_error(tmp_path):
    done = subprocess.run(
        [*SERVER, str(tmp_path), "--", "true"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path} does not contain the demo's data; generate it with "
        "workflow_scripts.demo.world\n"
    )


def test_the_huge_image_is_small_when_compressed_and_valid():
    from io import BytesIO

    import numpy as np
    from PIL import Image

    assert len(huge_image(12_000)) < 1_000_000
    assert (np.asarray(Image.open(BytesIO(huge_image(300)))) == 128).all()
    assert Image.open(BytesIO(huge_image(300))).size == (300, 300)
