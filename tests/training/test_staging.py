"""Staged images: read from the node's local disk, shared, and removed by the last reader."""

import fcntl
import json
import os
import shutil
import time
from collections import namedtuple
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.stopping import Stop
from workflow_scripts.training import staging
from workflow_scripts.training.spec import read_spec
from workflow_scripts.training.staging import staged

ALONE = ProcessGroup(0, 1, torch.device("cpu"))
TARS = ["data/pairs.tar", "evaluation/images.tar"]


@pytest.fixture(autouse=True)
def own_world(world, runs, tmp_path, monkeypatch):
    """A copy of the world that a test may break, with an extra tar that no manifest refers to."""
    copy = shutil.copytree(world, tmp_path / "world")
    shutil.copy(copy / TARS[0], copy / "data/others.tar")
    names = ("root", "manifest", "tokens", "augmented", "evaluation")
    inputs = {n: runs.base["inputs"][n].replace(str(world), str(copy)) for n in names}
    monkeypatch.setitem(runs.base, "inputs", runs.base["inputs"] | inputs)
    monkeypatch.setattr(staging, "_RESERVE_BYTES", 0)
    monkeypatch.setattr(staging, "_POLL_SECONDS", 0.05)
    return copy


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """The node's local disk, as $DISK."""
    monkeypatch.setenv("DISK", str(tmp_path / "disk"))
    return tmp_path / "disk"


@pytest.fixture
def stage(runs, disk):
    """Stage the data of a spec, as a separate process would."""

    def begin(stop=None, folder="$DISK", **changes):
        arguments = runs.arguments("staged", runs.spec(staging=folder, **changes))
        return staged(read_spec(arguments[1]), ALONE, stop or Stop())

    return begin


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


class Asked:
    """Replaces a Stop: never stops, but runs a function when its reason is read."""

    def __init__(self, do):
        self.do, self.times = do, 0

    @property
    def reason(self):
        self.times += 1
        self.do(self.times)


def copier(stage, tmp_path):
    """Start a process that hangs while copying the second tar, and return it."""

    def hang(times):
        if times == 2:
            (tmp_path / "copying").touch()
            time.sleep(600)

    process = get_context("fork").Process(target=stage(Asked(hang)).__enter__, daemon=True)
    process.start()
    while not (tmp_path / "copying").exists() and process.is_alive():
        time.sleep(0.01)
    return process


def kill(process):
    process.kill()
    process.join()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_staged_run_copies_once_and_gives_the_same_bytes(runs, disk, processes, capfd):
    spec = runs.spec(objective={"mmcl": 1.0, "ssl": 1.0}, held_out=12, epochs=1)
    direct = runs.together("direct", spec, "--workers", "1", processes=processes)
    spec["staging"] = "${DISK}"
    copied = runs.together("copied", spec, "--workers", "1", processes=processes)
    assert runs.same(direct, copied)
    assert capfd.readouterr().err.count("copying images: 100%") == 1
    records = [json.loads((folder / "run.json").read_text()) for folder in (direct, copied)]
    assert [record["spec"]["staging"] for record in records] == [None, "${DISK}"]
    assert records[0]["identity"] == records[1]["identity"]
    assert [file.rpartition(".")[2] for file in files(disk)] == ["lock"]


def test_a_run_reads_the_copies_and_not_the_results(runs, disk, stage, own_world):
    with stage():
        for tar in TARS:
            before = (own_world / tar).stat()
            (own_world / tar).write_bytes(bytes(before.st_size))
            os.utime(own_world / tar, ns=(before.st_atime_ns, before.st_mtime_ns))
        runs.train("a", runs.spec(staging=str(disk), epochs=1))
        with pytest.raises(StepError, match="cannot be read"):
            runs.train("b", runs.spec(epochs=1))


def test_only_tars_in_the_manifests_are_copied(stage, own_world):
    with stage() as folder:
        assert files(folder) == TARS
        for tar in TARS:
            assert (folder / tar).read_bytes() == (own_world / tar).read_bytes()


def test_a_finished_run_is_restored_without_copying(runs, disk):
    spec = runs.spec(epochs=0, staging="$DISK")
    runs.train("a", spec)
    shutil.rmtree(disk)
    runs.train("a", spec)
    assert not disk.exists()


def test_runs_on_the_same_data_share_a_copy_and_the_last_removes_it(stage):
    with stage() as first:
        before = (first / TARS[0]).stat()
        with stage(seed=1) as second:
            assert second == first
            assert (second / TARS[0]).stat().st_ino == before.st_ino
        assert files(first) == TARS
    assert not first.exists()


def test_changed_data_is_copied_again(stage, own_world):
    with stage() as first:
        os.utime(own_world / TARS[0])
        with stage() as second:
            assert second != first
            assert files(first) == TARS


def test_an_interrupted_copy_resumes_with_the_complete_files(stage, disk, tmp_path):
    kill(copier(stage, tmp_path))
    (left,) = disk.rglob(TARS[0])
    before = left.stat()
    with stage() as folder:
        assert left == folder / TARS[0]
        assert (left.stat().st_ino, left.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert files(folder) == TARS


def test_leftovers_of_killed_jobs_are_removed_and_copies_in_use_kept(
    stage, disk, own_world, tmp_path
):
    kill(copier(stage, tmp_path))
    (left,) = disk.rglob(TARS[0])
    os.utime(own_world / TARS[0])
    with stage() as used:
        assert not left.exists()
        os.utime(own_world / TARS[1])
        with stage():
            assert files(used) == TARS


def test_a_waiting_process_takes_over_a_copy_if_the_copier_dies(stage, tmp_path):
    process = copier(stage, tmp_path)
    waiting = Asked(lambda times: kill(process) if times == 1 else None)
    with stage(waiting) as folder:
        assert files(folder) == TARS
    assert waiting.times > 1


def test_a_copy_removed_before_it_is_shared_is_made_again(stage, monkeypatch):
    def try_lock(lock, kind):
        if kind == fcntl.LOCK_SH:
            monkeypatch.setattr(staging, "_try_lock", original)
            shutil.rmtree(Path(lock.name).with_suffix(""))
        return original(lock, kind)

    original = staging._try_lock
    monkeypatch.setattr(staging, "_try_lock", try_lock)
    with stage() as folder:
        assert files(folder) == TARS


def test_copying_may_take_longer_than_the_process_timeout(runs, tmp_path, monkeypatch):
    def prepare():
        rank = os.environ["RANK"]
        monkeypatch.setenv("DISK", str(tmp_path / f"disk of node {rank}"))
        original = staging._Copy.complete
        if rank == "1":
            slow = lambda *given: (time.sleep(9), original(*given))  # noqa: E731
            monkeypatch.setattr(staging._Copy, "complete", slow)

    spec = runs.spec(epochs=0, staging="$DISK")
    folder = runs.together("a", spec, "--timeout", "0.1", processes=2, prepare=prepare)
    assert (folder / "run.json").exists()


def test_copying_ends_on_a_stop_request(stage, disk):
    with (
        pytest.raises(StepError, match="stopped by the time limit of 0 minutes while images"),
        stage(Stop(0)),
    ):
        pass
    assert [file.rpartition(".")[2] for file in files(disk)] == ["lock"]


def test_a_full_disk_is_a_clear_error_with_both_sizes(stage, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(staging, "_RESERVE_BYTES", 2 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 15 * 10**8))
    with (
        pytest.raises(StepError, match=r"need 2\.0 GB in .*, where 1\.5 GB are free; set exec"),
        stage(),
    ):
        pass


def test_a_missing_tar_is_named(stage, own_world):
    (own_world / TARS[1]).unlink()
    with pytest.raises(StepError, match=r"evaluation/images\.tar is missing"), stage():
        pass


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("${NO_SUCH}/x", r"\$\{NO_SUCH\} is not set on this node"),
        ("$NO_SUCH", r"\$NO_SUCH is not set on this node"),
        ("$EMPTY", "expands to '' on this node and is not an absolute path"),
        ("scratch", "not an absolute path"),
    ],
)
def test_an_invalid_folder_is_rejected(stage, monkeypatch, folder, message):
    monkeypatch.delenv("NO_SUCH", raising=False)
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(StepError, match=message), stage(folder=folder):
        pass


def test_copies_planted_by_another_user_are_not_read(stage, disk):
    with stage() as folder:
        planted = folder.parent
    planted.chmod(0o777)
    with pytest.raises(StepError, match="is open to other users"), stage():
        pass
