"""A private Slurm: controller, nodes and munge as ordinary processes, all files in one folder.

    python tests/slurm/private_slurm.py    start one for manual experiments, until Ctrl-C

Each node simulates 64 cores and eight GPUs. It does not interfere with other Slurm installations,
and stops when the process that started it ends for any reason: a guard process waits on a pipe.
"""

import contextlib
import getpass
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GPUS = 8
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
# Set in the environment of a node's slurmd, and thus of the slurmstepd of each of its jobs.
_MARK = "PRIVATE_SLURM_NODE"
# Debian installs the daemons outside the PATH of ordinary users.
_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"

_SLURM_CONF = """
ClusterName=private
SlurmctldHost=localhost
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
AccountingStorageType=accounting_storage/none
MinJobAge=3600
SlurmdTimeout=10
ReturnToService=2
MpiDefault=none
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
GresTypes=gpu
DefMemPerCPU=1000
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=9
"""
_NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=64 Boards=1 "
    "SocketsPerBoard=2 CoresPerSocket=32 ThreadsPerCore=1 RealMemory=512000 Gres=gpu:{gpus}"
)


class SlurmError(Exception):
    """A private Slurm cannot be started here; the message says why."""


class PrivateSlurm:
    """A running Slurm; use as a context.

    ``environment`` is what a program needs to use it.
    """

    def __init__(self, nodes: int = 1):
        self.nodes = [f"node{number}" for number in range(1, nodes + 1)]
        self.folder = Path(tempfile.mkdtemp(prefix="private-slurm-"))
        # munged refuses a socket that is not accessible to everybody.
        self.folder.chmod(0o755)
        self.environment = os.environ | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder}/bin:{_PATH}",
        }

    def __enter__(self) -> "PrivateSlurm":
        self._guard = subprocess.Popen(
            [sys.executable, __file__, "guard", str(self.folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._write_files()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._guard.stdin.close()
        self._guard.wait()

    def run(self, *command: str) -> str:
        """Run a Slurm command; return its output."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise SlurmError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """Return all submitted jobs, as reported by ``scontrol show job``."""
        lines = self.run("scontrol", "show", "job", "--oneliner").splitlines()
        return [fields(line) for line in lines if line.startswith("JobId=")]

    def start_node(self, name: str) -> None:
        """Start or restart a node's slurmd."""
        self._spawn("slurmd", "-N", name, **{_MARK: f"{self.folder}/{name}"})
        self._wait_until(lambda: "idle" in self.run("sinfo", "-hn", name, "-o", "%T"), "the node")

    def fail_node(self, name: str) -> None:
        """Simulate a power failure of a node: kill its slurmd and all its jobs at once."""
        # First kill the processes that would report the end of the others to the controller.
        for text in (f"{_MARK}={self.folder}/{name}", f"SLURMD_NODENAME={name}"):
            ours = set(_processes(f"{self.folder}/"))
            _end([p for p in _processes(text) if p in ours], signal.SIGKILL)

    def _write_files(self) -> None:
        missing = [p for p in PROGRAMS if shutil.which(p, path=_PATH) is None]
        if missing:
            raise SlurmError(f"{', '.join(missing)} not found; install slurm-wlm and munge")
        host = socket.gethostname().split(".")[0]
        ports = _free_ports(1 + len(self.nodes))
        nodes = [
            _NODE.format(name=name, host=host, port=port, gpus=GPUS)
            for name, port in zip(self.nodes, ports[1:], strict=True)
        ]
        text = _SLURM_CONF.format(
            user=getpass.getuser(), folder=self.folder, ports=ports, nodes="\n".join(nodes)
        )
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()
        for name in self.nodes:
            (self.folder / f"spool-{name}").mkdir()
        self._make_gpus()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        # The executor plugin drops SLURM_CONF from the environment before it calls srun.
        wrapper = self.folder / "bin" / "srun"
        wrapper.parent.mkdir()
        real = shutil.which("srun", path=_PATH)
        wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {real} "$@"\n')
        wrapper.chmod(0o755)

    def _make_gpus(self) -> None:
        """Create simulated GPUs as character devices, the only files that Slurm accepts as GPUs."""
        try:
            for number in range(GPUS):
                os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))
            stem = f"{self.folder}/gpu"
        except PermissionError as error:
            # They are never opened, so consoles, which most machines have, are suitable as well.
            stem = "/dev/tty"
            if not all(Path(f"{stem}{n}").is_char_device() for n in range(GPUS)):
                raise SlurmError(
                    f"there are no devices for simulated GPUs: {stem}0 to {GPUS - 1} are "
                    "missing and mknod is not allowed; run the Slurm tests as root"
                ) from error
        lines = [f"NodeName={n} Name=gpu File={stem}[0-{GPUS - 1}]" for n in self.nodes]
        (self.folder / "gres.conf").write_text("\n".join(lines) + "\n")

    def _start(self) -> None:
        f = self.folder
        self._spawn(
            *("munged", f"--socket={f}/munge.socket", f"--key-file={f}/munge.key"),
            *(f"--pid-file={f}/munged.pid", f"--log-file={f}/munged.log"),
            f"--seed-file={f}/munge.seed",
        )
        self._spawn("slurmctld", "-c")
        self._wait_until(lambda: "UP" in self.run("scontrol", "ping"), "the controller")
        for name in self.nodes:
            self.start_node(name)

    def _spawn(self, *command: str, **variables: str) -> None:
        done = subprocess.run(
            command,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise SlurmError(f"{command[0]} did not start: {done.stderr.strip()}")

    def _wait_until(self, ready, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(SlurmError):
                if ready():
                    return
            if time.monotonic() > deadline:
                logs = "\n".join(log.read_text()[-2000:] for log in self.folder.glob("*.log"))
                raise SlurmError(f"{what} of the private Slurm did not come up:\n{logs}")
            time.sleep(0.3)


def fields(line: str) -> dict[str, str]:
    """Parse a line of ``Name=value`` pairs; values may contain spaces and equal signs."""
    return dict(re.findall(r"(?:^| )([A-Z][\w:/]*)=(.*?)(?= [A-Z][\w:/]*=|$)", line))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(socket.create_server(("", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in servers]


def _processes(text: str) -> list[int]:
    """Return the other processes whose environment contains a text."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def _end(processes: list[int], number: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _guard(folder: str) -> None:
    """Wait until the starting process has ended, then stop all processes that use the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    while processes := _processes(f"{folder}/slurm.conf"):
        _end(processes, signal.SIGKILL)
        time.sleep(0.2)
    shutil.rmtree(folder, ignore_errors=True)


def _try_it() -> None:
    with PrivateSlurm() as slurm:
        settings = {key: slurm.environment[key] for key in ("SLURM_CONF", "PATH")}
        print("\n".join(f"export {key}={value}" for key, value in settings.items()), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    if sys.argv[1:2] == ["guard"]:
        _guard(sys.argv[2])
    else:
        _try_it()
