"""A training's images on the node's own disk, copied there once for all that read them.

    FOLDER/clip-backdoor-cleaning-UID/KEY/       copies of tars, as they lie below the results root
                                      KEY.lock   held by who uses them

Who reads shares a lock (flock), who copies or removes has it alone. The operating system takes it
back when its holder ends, whatever ends it: what a killed job has left is what nobody has locked.
Lock files stay, they are empty; were they removed, two processes could each lock one of the name.
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

from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.files import atomic, digest
from workflow_scripts.common.private import private_folder
from workflow_scripts.common.stopping import Stop, Stopped
from workflow_scripts.data.manifest import Places
from workflow_scripts.training.spec import InputsSpec, RunSpec

_CHUNK = 16 << 20
_RESERVE_BYTES = 10**9
_LOOK_EVERY_SECONDS = 1
# Nodes copy at speeds of their own, or have the copy already.
_PATIENCE = datetime.timedelta(days=1)


@contextlib.contextmanager
def staged(spec: RunSpec, world: World, stop: Stop) -> Iterator[Path]:
    """Yield the folder to read a run's tars from, complete on every node.

    It is the results root, or below ``spec.staging`` a copy of the tars that the run's manifests
    name. Trainings on the same data share it, and the last one to leave removes it.

    Raises:
        StepError: A tar is missing, there is too little room, the run is to stop, or the folder of
            the copies is not this user's alone.
    """
    if spec.staging is None:
        yield Path(spec.inputs.root)
        return
    folder = private_folder(_place(spec.staging), "clip-backdoor-cleaning")
    copy = _Copy(spec.inputs, folder)
    with copy.lock_file.open("a+") as lock:
        try:
            _hold(lock, copy, stop)
            if world.size > 1:
                distributed.barrier(timeout=_PATIENCE)
            yield copy.folder
        finally:
            if _take(lock, fcntl.LOCK_EX):
                shutil.rmtree(copy.folder, ignore_errors=True)
            # Not left to closing it: a worker that still lives has inherited the open file.
            fcntl.flock(lock, fcntl.LOCK_UN)


def _place(staging: str) -> Path:
    """Return the folder that ``execution.staging`` means on this node."""
    expanded = os.path.expandvars(staging)
    unset = re.search(r"\$\{?\w+\}?", expanded)
    if unset is not None:
        raise StepError(
            f"execution.staging is {staging!r}, but {unset[0]} is not set on this node; give a "
            "folder on the node's own disk, or null"
        )
    if not Path(expanded).is_absolute():
        raise StepError(
            f"execution.staging is {staging!r}, which is {expanded!r} on this node and no absolute "
            "path; give a folder on the node's own disk, or null"
        )
    return Path(expanded)


class _Copy:
    """The copies of a run's tars; what is there under a tar's name is whole.

    The folder's name is a digest of the tars' names, sizes and times: other data, another folder.
    """

    def __init__(self, inputs: InputsSpec, parent: Path):
        self.root = Path(inputs.root).resolve()
        manifests: list[str | Path] = [
            inputs.manifest,
            Path(inputs.evaluation) / "manifest.parquet",
        ]
        manifests += [] if inputs.instances is None else [inputs.instances]
        names = {tar for path in manifests for tar in Places.read(path).tars}
        there = {tar: self._look_at(tar) for tar in sorted(names)}
        self.sizes = {tar: state.st_size for tar, state in there.items()}
        tars = [[tar, state.st_size, state.st_mtime_ns] for tar, state in there.items()]
        self.folder = parent / digest([str(self.root), tars], 16)
        self.lock_file = self.folder.with_name(f"{self.folder.name}.lock")

    def _look_at(self, tar: str) -> os.stat_result:
        try:
            return (self.root / tar).stat()
        except FileNotFoundError as error:
            raise StepError(
                f"{self.root / tar} is missing, but the run's manifests point there; make it again"
            ) from error

    def missing(self) -> list[str]:
        """Return the tars that are not copied yet."""
        return [tar for tar in self.sizes if not (self.folder / tar).is_file()]

    def complete(self, stop: Stop) -> None:
        """Copy what is missing; the lock has to be this process's alone."""
        missing = self.missing()
        if not missing:
            return
        wanted = sum(self.sizes[tar] for tar in missing)
        self._make_room(wanted)
        with tqdm(
            desc="copying images", total=wanted, mininterval=5, unit="B", unit_scale=True
        ) as bar:
            for tar in missing:
                self._copy(tar, bar, stop)

    def _make_room(self, wanted: int) -> None:
        """Remove what killed jobs have left, and see whether ``wanted`` bytes fit."""
        for other in self.folder.parent.glob("*.lock"):
            if other != self.lock_file:
                with other.open("a+") as lock:
                    if _take(lock, fcntl.LOCK_EX):
                        shutil.rmtree(other.with_suffix(""), ignore_errors=True)
        free = shutil.disk_usage(self.folder.parent).free
        if free < wanted + _RESERVE_BYTES:
            raise StepError(
                f"the run's images need {(wanted + _RESERVE_BYTES) / 1e9:.1f} GB in "
                f"{self.folder.parent}, where {free / 1e9:.1f} GB are free; set execution.staging "
                "to a folder with more room, or to null, which reads them where they are"
            )

    def _copy(self, tar: str, bar: tqdm, stop: Stop) -> None:
        with atomic(self.folder / tar) as temporary:
            with (self.root / tar).open("rb") as source, temporary.open("wb") as target:
                while piece := source.read(_CHUNK):
                    _go_on(stop)
                    bar.update(target.write(piece))
            if temporary.stat().st_size != self.sizes[tar]:
                raise StepError(f"{self.root / tar} was changed while it was copied; run again")


def _hold(lock: TextIO, copy: _Copy, stop: Stop) -> None:
    """Take a share of the lock with the copy complete, which the first one sees to."""
    while True:
        if _take(lock, fcntl.LOCK_EX):
            copy.complete(stop)
        # Between the two locks another may have had its own, and removed the copy as the last one.
        if _take(lock, fcntl.LOCK_SH) and not copy.missing():
            return
        fcntl.flock(lock, fcntl.LOCK_UN)
        _go_on(stop)
        time.sleep(_LOOK_EVERY_SECONDS)


def _take(lock: TextIO, kind: int) -> bool:
    """Return whether the lock is this process's now, in place of what it had of it."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _go_on(stop: Stop) -> None:
    if stop.reason:
        raise Stopped(f"stopped by {stop.reason} while images were copied; run again")
