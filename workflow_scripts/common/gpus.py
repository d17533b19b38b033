"""Run a command on GPUs that are not used by other jobs on this machine.

    python -m workflow_scripts.common.gpus --count 1 -- python train.py

Reserves free GPUs among those in CUDA_VISIBLE_DEVICES (by default all GPUs of the machine) and
hides the others from the command. A reservation is a file lock, which the operating system releases
when the command ends for any reason. In Slurm jobs nothing is reserved, because Slurm assigns GPUs.
"""

import argparse
import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.private_folder import private_folder

_POLL_SECONDS = 1


def main(arguments: list[str] | None = None) -> None:
    """Reserve GPUs and replace this process by the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, required=True, help="number of GPUs; 0 for none")
    parser.add_argument("--wait", type=float, default=10, help="minutes to wait for free GPUs (10)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- command")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("the command to run is missing; add it after --")
    gpus = visible()
    # Without GPUs, the command itself fails or runs on the CPU.
    if options.count and gpus and "SLURM_JOB_ID" not in os.environ:
        taken = take(gpus, options.count, options.wait)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(taken)
    os.execvp(command[0], command)


def visible() -> list[str]:
    """Return the GPUs that this process may use, by index or UUID."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu]
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split()


def take(gpus: list[str], count: int, wait_minutes: float) -> list[str]:
    """Reserve ``count`` of ``gpus`` until this process, or the command that replaces it, ends.

    Raises:
        StepError: There are fewer GPUs, they do not become free within ``wait_minutes``, or the
            folder of the locks is accessible to other users.
    """
    if count > len(gpus):
        raise StepError(
            f"{count} GPUs were requested, but only {len(gpus)} are available; lower "
            "resources.*.gpu in the config"
        )
    folder = private_folder(tempfile.gettempdir(), "gpus-of")
    deadline = time.monotonic() + wait_minutes * 60
    while True:
        held = {gpu: file for gpu in gpus if (file := _lock(folder / gpu)) is not None}
        taken = list(held)[:count]
        for gpu, file in held.items():
            if gpu not in taken or len(taken) < count:
                os.close(file)
        if len(taken) == count:
            return taken
        if time.monotonic() > deadline:
            raise StepError(
                f"{count} of the GPUs {', '.join(gpus)} did not become free within "
                f"{wait_minutes:g} minutes; limit Snakemake to them with --resources "
                f"gpu={len(gpus)}, or find the processes that lock the files in {folder} (lsof)"
            )
        time.sleep(_POLL_SECONDS)


def _lock(path: Path) -> int | None:
    """Return a locked, inheritable file descriptor; None if another process holds the lock."""
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        return None
    os.set_inheritable(file, True)
    return file


if __name__ == "__main__":
    run_step(main)
