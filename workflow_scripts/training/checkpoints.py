"""Checkpoints: written whole or not at all, the last few kept, a damaged one passed over."""

import fcntl
import os
import platform
import re
import shutil
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, TextIO

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic, sha256
from workflow_scripts.model.tensors import load_tensors, save_tensors

_NAME = re.compile(r"step-(\d{9})-([0-9a-f]{16})\.pt")


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    A file's name carries its step and the start of its SHA-256, so that one rename makes it
    valid, and flipped bits are noticed, which PyTorch's own format lets pass.
    """

    def __init__(self, folder: str | Path, keep: int):
        self.folder, self.keep = Path(folder), keep

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write a checkpoint of tensors and plain values, and drop the oldest beyond ``keep``.

        Those of this step and later ones are dropped too: they are damaged and were passed over,
        or the run was trained there before.
        """
        whole = self.folder / "unnamed.pt"
        with atomic(whole) as temporary:
            save_tensors(content, temporary)
        new = whole.rename(self.folder / f"step-{step:09d}-{sha256(whole)[:16]}.pt")
        others = [file for file in self.files() if file != new]
        earlier = [file for file in others if _step(file) < step]
        for file in set(others) - set(earlier[: self.keep - 1]):
            file.unlink()

    def files(self) -> list[Path]:
        """Return the checkpoint files, the newest first."""
        there = self.folder.glob("step-*.pt") if self.folder.is_dir() else []
        return sorted((f for f in there if _NAME.fullmatch(f.name)), reverse=True)

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and content of the newest checkpoint that is whole, or None.

        Warns on stderr of each damaged one.
        """
        for file in self.files():
            content = self._read(file)
            if content is not None:
                return _step(file), content
        return None

    def file(self, step: int) -> Path | None:
        """Return the checkpoint file of a step, or None; its content is not looked at."""
        return next((file for file in self.files() if _step(file) == step), None)

    def only(self, steps: Collection[int]) -> None:
        """Remove the checkpoints of all other steps."""
        for file in self.files():
            if _step(file) not in steps:
                file.unlink()

    def find(self, step: int) -> dict[str, Any] | None:
        """Return the content of the checkpoint of a step, or None if there is no whole one."""
        of_step = (self._read(file) for file in self.files() if _step(file) == step)
        return next((content for content in of_step if content is not None), None)

    def read(self, step: int) -> dict[str, Any]:
        """Return the content of the checkpoint of a step that another process found whole."""
        content = self.find(step)
        if content is None:
            raise StepError(f"the checkpoint of step {step} in {self.folder} cannot be read here")
        return content

    def check_origin(self, content: dict[str, Any], identity: str, inputs: dict[str, str]) -> None:
        """Make sure that a checkpoint was made by the run that wants to go on from it.

        Args:
            content: The checkpoint.
            identity: The run spec's digest.
            inputs: Digests of the input files.

        Raises:
            StepError: Names what is different.
        """
        changed = [role for role, value in content["inputs"].items() if inputs.get(role) != value]
        if content["identity"] != identity:
            changed.append("spec")
        if changed:
            raise StepError(
                f"the checkpoints in {self.folder} were made with another {', '.join(changed)}; "
                "delete that folder to start again"
            )

    def clear(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _read(file: Path) -> dict[str, Any] | None:
        try:
            if not sha256(file).startswith(_parts(file)[2]):
                raise StepError("its content is not what was written")
            return load_tensors(file, "checkpoint")
        except (OSError, StepError) as error:
            print(f"warning: checkpoint {file} is passed over: {error}", file=sys.stderr)
            return None


def _parts(file: Path) -> re.Match[str]:
    matched = _NAME.fullmatch(file.name)
    assert matched is not None  # no other files are listed
    return matched


def _step(file: Path) -> int:
    return int(_parts(file)[1])


def lock(folder: Path) -> TextIO:
    """Make this process the only one to train in ``folder``, for as long as the file is open.

    The operating system (or the file server) holds the lock, so that it ends with its holder
    whatever happens, and no clock takes part.

    Raises:
        StepError: Another process is training there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / ".lock").open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise StepError(
            f"another process is training in {folder}: {holder}; wait for it, or end it "
            "(scancel, kill)"
        ) from error
    file.truncate(0)
    job = os.environ.get("SLURM_JOB_ID")
    slurm = f"Slurm job {job}, " if job else ""
    file.write(f"{slurm}process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file
