"""Run a command on GPUs that no other job of this machine has.

    python -m workflow_scripts.common.gpus --count 1 -- python train.py

Takes free ones of CUDA_VISIBLE_DEVICES, or of all that the machine has, and shows the command no
others. A GPU is taken by a lock on a file, which the operating system holds for the command and
gives back with its end, whatever ends it. Slurm's jobs have theirs already.
"""

import argparse
import fcntl
import os
import subprocess
import tempfile
import time
from pathlib import Path

from workflow_scripts.common.errors import StepError, run_step
from workflow_scripts.common.private import private_folder

_LOOK_EVERY_SECONDS = 1


def main(arguments: list[str] | None = None) -> None:
    """Take GPUs and become the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, required=True, help="GPUs to take; 0 takes none")
    parser.add_argument("--wait", type=float, default=10, help="minutes to wait for free ones")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- command")
    options = parser.parse_args(arguments)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        parser.error("give the command to run after --")
    gpus = visible()
    # Where there are none the command itself says so, or does without.
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
    """Take ``count`` of ``gpus`` for this process and what it becomes.

    Raises:
        StepError: There are fewer, others keep them for longer than ``wait_minutes``, or the folder
            of the locks is not this user's alone.
    """
    if count > len(gpus):
        raise StepError(
            f"{count} GPUs are asked for, and this machine offers {len(gpus)}; set "
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
                f"{wait_minutes:g} minutes; give Snakemake their number (--resources "
                f"gpu={len(gpus)}), or see who holds the files in {folder} (lsof)"
            )
        time.sleep(_LOOK_EVERY_SECONDS)


def _lock(path: Path) -> int | None:
    """Return an open, locked file that a command inherits; None if another has the lock."""
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
