"""Copying a run's images to the node's local disk; jobs on the same data share one copy.

    FOLDER/clip-backdoor-cleaning-UID/KEY/       copies of tars, with paths as in the results root
                                      KEY.lock   locked while the copies are in use

Readers hold a shared lock (flock); copying and removing require an exclusive one. The operating
system releases a lock when its process ends for any reason, so copies without a lock are leftovers
of killed jobs. The empty lock files are never removed: otherwise two processes could each lock a
different file of the same name.
"""

import contextlib
import datetime
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from torch import distributed
from tqdm import tqdm

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic, digest
from workflow_scripts.common.private_folder import private_folder
from workflow_scripts.common.stopping import Stop, Stopped
from workflow_scripts.data.manifest import Places
from workflow_scripts.training.spec import InputsSpec, RunSpec

_CHUNK = 16 << 20
_RESERVE_BYTES = 10**9
_POLL_SECONDS = 1
# Nodes copy at different speeds, or already have the copy.
_BARRIER_TIMEOUT = datetime.timedelta(days=1)


@contextlib.contextmanager
def staged(spec: RunSpec, world: ProcessGroup, stop: Stop) -> Iterator[Path]:
    """Yield the folder to read a run's tars from, complete on every node.

    This is the results root or, if ``spec.staging`` is set, a copy below it of the tars that the
    run's manifests refer to. Runs on the same data share the copy; the last one removes it.

    Raises:
        StepError: A tar is missing, the disk is too full, or the folder of the copies is
            accessible to other users.
        Stopped: The run was stopped while images were copied.
    """
    if spec.staging is None:
        yield Path(spec.inputs.root)
        return
    folder = private_folder(_expanded(spec.staging), "clip-backdoor-cleaning")
    copy = _Copy(spec.inputs, folder)
    with copy.lock_file.open("a+") as lock:
        try:
            _hold(lock, copy, stop)
            if world.size > 1:
                distributed.barrier(timeout=_BARRIER_TIMEOUT)
            yield copy.folder
        finally:
            if _try_lock(lock, fcntl.LOCK_EX):
                shutil.rmtree(copy.folder, ignore_errors=True)
            # Closing the file may not unlock it: a worker still alive has inherited it.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _expanded(staging: str) -> Path:
    """Return the folder ``execution.staging`` on this node, with environment variables expanded."""
    expanded = os.path.expandvars(staging)
    unset = re.search(r"\$\{?\w+\}?", expanded)
    if unset is not None:
        raise StepError(
            f"execution.staging is {staging!r}, but {unset[0]} is not set on this node; give a "
            "folder on the node's local disk, or null"
        )
    if not Path(expanded).is_absolute():
        raise StepError(
            f"execution.staging is {staging!r}, which expands to {expanded!r} on this node and is "
            "not an absolute path; give a folder on the node's local disk, or null"
        )
    return Path(expanded)


class _Copy:
    """The copies of a run's tars; a file that exists under a tar's name is complete.

    The folder is named by a digest of the tars' names, sizes and modification times.
    """

    def __init__(self, inputs: InputsSpec, parent: Path):
        self.root = Path(inputs.root).resolve()
        manifests: list[str | Path] = [
            inputs.manifest,
            Path(inputs.evaluation) / "manifest.parquet",
        ]
        manifests += [] if inputs.instances is None else [inputs.instances]
        names = {tar for path in manifests for tar in Places.read(path).tars}
        stats = {tar: self._stat(tar) for tar in sorted(names)}
        self.sizes = {tar: stat.st_size for tar, stat in stats.items()}
        tars = [[tar, stat.st_size, stat.st_mtime_ns] for tar, stat in stats.items()]
        self.folder = parent / digest([str(self.root), tars], 16)
        self.lock_file = self.folder.with_name(f"{self.folder.name}.lock")

    def _stat(self, tar: str) -> os.stat_result:
        try:
            return (self.root / tar).stat()
        except FileNotFoundError as error:
            raise StepError(
                f"{self.root / tar} is missing, but the run's manifests refer to it; make it again"
            ) from error

    def missing(self) -> list[str]:
        """Return the tars that are not copied yet."""
        return [tar for tar in self.sizes if not (self.folder / tar).is_file()]

    def complete(self, stop: Stop) -> None:
        """Copy the missing tars; the caller must hold the exclusive lock."""
        missing = self.missing()
        if not missing:
            return
        size = sum(self.sizes[tar] for tar in missing)
        self._make_room(size)
        with tqdm(
            desc="copying images", total=size, mininterval=5, unit="B", unit_scale=True
        ) as bar:
            for tar in missing:
                self._copy(tar, bar, stop)

    def _make_room(self, size: int) -> None:
        """Remove the leftovers of killed jobs and check that ``size`` bytes fit."""
        for other in self.folder.parent.glob("*.lock"):
            if other != self.lock_file:
                with other.open("a+") as lock:
                    if _try_lock(lock, fcntl.LOCK_EX):
                        shutil.rmtree(other.with_suffix(""), ignore_errors=True)
        free = shutil.disk_usage(self.folder.parent).free
        if free < size + _RESERVE_BYTES:
            raise StepError(
                f"the run's images need {(size + _RESERVE_BYTES) / 1e9:.1f} GB in "
                f"{self.folder.parent}, where {free / 1e9:.1f} GB are free; set execution.staging "
                "to a folder with more space, or to null to read the images without copying"
            )

    def _copy(self, tar: str, bar: tqdm, stop: Stop) -> None:
        with atomic(self.folder / tar) as temporary:
            with (self.root / tar).open("rb") as source, temporary.open("wb") as target:
                while piece := source.read(_CHUNK):
                    _check_stop(stop)
                    bar.update(target.write(piece))
            if temporary.stat().st_size != self.sizes[tar]:
                raise StepError(f"{self.root / tar} changed while it was copied; run again")


def _hold(lock: TextIO, copy: _Copy, stop: Stop) -> None:
    """Acquire a shared lock on a complete copy; the first process makes the copy."""
    while True:
        if _try_lock(lock, fcntl.LOCK_EX):
            copy.complete(stop)
        # Between the two locks, another process may have removed the copy as its last reader.
        if _try_lock(lock, fcntl.LOCK_SH) and not copy.missing():
            return
        fcntl.flock(lock, fcntl.LOCK_UN)
        _check_stop(stop)
        time.sleep(_POLL_SECONDS)


def _try_lock(lock: TextIO, kind: int) -> bool:
    """Try to convert the process's lock to ``kind``; return whether this succeeded."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_stop(stop: Stop) -> None:
    if stop.reason:
        raise Stopped(f"stopped by {stop.reason} while images were copied; run again")
