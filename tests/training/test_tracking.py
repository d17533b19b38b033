"""wandb never stops a run."""

import sys
import time

import pytest

from workflow_scripts.training import tracking


class Broken:
    """A stand-in for wandb in which every call fails or hangs."""

    def __init__(self, call):
        self.Settings = dict
        self.init = call


@pytest.mark.parametrize("how", ["absent", "failing", "hanging"])
def test_a_run_continues_without_wandb(runs, monkeypatch, capsys, how):
    def call(**_):
        if how == "failing":
            sys.exit("no network")
        time.sleep(60)

    monkeypatch.setitem(sys.modules, "wandb", None if how == "absent" else Broken(call))
    monkeypatch.setattr(tracking, "_TIMEOUT_SECONDS", 0.2 if how == "hanging" else 10)
    folder = runs.train("a", runs.spec(wandb={"mode": "online", "project": "x"}, epochs=1))
    assert (folder / "run.json").exists()
    assert capsys.readouterr().err.count("warning: wandb failed to start") == 1


def test_wandb_is_not_imported_if_disabled(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    runs.train("a", runs.spec(epochs=0))


def test_offline_mode_writes_to_the_runs_folder(runs):
    folder = runs.train("a", runs.spec(wandb={"mode": "offline", "project": "x"}, epochs=1))
    assert list((folder / "wandb").glob("offline-run-*"))
