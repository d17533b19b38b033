"""Checkpoints: written atomically, the last few kept, damaged ones skipped."""

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
    """The checkpoints of one run, in a separate folder.

    A file's name contains its step and the beginning of its SHA-256 digest. A single rename makes
    it valid, and flipped bits are detected, which PyTorch's format does not do.
    """

    def __init__(self, folder: str | Path, keep: int):
        self.folder, self.keep = Path(folder), keep

    def save(self, step: int, content: dict[str, Any]) -> None:
        """Write a checkpoint of tensors and plain values; keep the newest ``keep`` checkpoints.

        Existing checkpoints of the same or a later step are removed: they are damaged and were
        skipped, or belong to an earlier attempt.
        """
        unnamed = self.folder / "unnamed.pt"
        with atomic(unnamed) as temporary:
            save_tensors(content, temporary)
        new = unnamed.rename(self.folder / f"step-{step:09d}-{sha256(unnamed)[:16]}.pt")
        others = [file for file in self.files() if file != new]
        earlier = [file for file in others if _step(file) < step]
        for file in set(others) - set(earlier[: self.keep - 1]):
            file.unlink()

    def files(self) -> list[Path]:
        """Return the checkpoint files, newest first."""
        found = self.folder.glob("step-*.pt") if self.folder.is_dir() else []
        return sorted((f for f in found if _NAME.fullmatch(f.name)), reverse=True)

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Return step and content of the newest intact checkpoint, or None.

        Prints a warning for each damaged one.
        """
        for file in self.files():
            content = self._read(file)
            if content is not None:
                return _step(file), content
        return None

    def file(self, step: int) -> Path | None:
        """Return the checkpoint file of a step, or None, without reading it."""
        return next((file for file in self.files() if _step(file) == step), None)

    def only(self, steps: Collection[int]) -> None:
        """Remove the checkpoints of all other steps."""
        for file in self.files():
            if _step(file) not in steps:
                file.unlink()

    def find(self, step: int) -> dict[str, Any] | None:
        """Return the content of the checkpoint of a step, or None if there is no intact one."""
        of_step = (self._read(file) for file in self.files() if _step(file) == step)
        return next((content for content in of_step if content is not None), None)

    def read(self, step: int) -> dict[str, Any]:
        """Return the content of the checkpoint of a step that another process could read.

        Raises:
            StepError: It cannot be read by this process.
        """
        content = self.find(step)
        if content is None:
            raise StepError(
                f"the checkpoint of step {step} in {self.folder} cannot be read by all processes"
            )
        return content

    def check_origin(self, content: dict[str, Any], identity: str, inputs: dict[str, str]) -> None:
        """Check that a checkpoint belongs to the run that is about to resume from it.

        Args:
            content: The checkpoint.
            identity: The run spec's digest.
            inputs: Digests of the input files.

        Raises:
            StepError: The spec or an input file differs.
        """
        changed = [role for role, value in content["inputs"].items() if inputs.get(role) != value]
        if content["identity"] != identity:
            changed.append("spec")
        if changed:
            raise StepError(
                f"the checkpoints in {self.folder} were made with a different "
                f"{', '.join(changed)}; delete that folder to start again"
            )

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _read(file: Path) -> dict[str, Any] | None:
        try:
            if not sha256(file).startswith(_parts(file)[2]):
                raise StepError("its content does not match its digest")
            return load_tensors(file, "checkpoint")
        except (OSError, StepError) as error:
            print(f"warning: skipping checkpoint {file}: {error}", file=sys.stderr)
            return None


def _parts(file: Path) -> re.Match[str]:
    matched = _NAME.fullmatch(file.name)
    assert matched is not None  # files() lists no others
    return matched


def _step(file: Path) -> int:
    return int(_parts(file)[1])


def lock(folder: Path) -> TextIO:
    """Lock ``folder`` against other training processes for as long as the returned file is open.

    The operating system (or the file server) releases the lock when its holder ends for any reason;
    no timeout is involved.

    Raises:
        StepError: Another process is training in this folder.
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
            f"another process is training in {folder}: {holder}; wait for it to finish or stop it "
            "(scancel, kill)"
        ) from error
    file.truncate(0)
    job = os.environ.get("SLURM_JOB_ID")
    slurm = f"Slurm job {job}, " if job else ""
    file.write(f"{slurm}process {os.getpid()} on {platform.node()}\n")
    file.flush()
    return file
