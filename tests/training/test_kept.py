"""When a cleaning run ends, the models that a selection rule would choose are on disk."""

import json
import os
import signal

import pytest
import torch

from workflow_scripts.evaluation import zero_shot
from workflow_scripts.training import trainer

# By epoch; epoch 0 is the start model. The best with ASR < 5 % is epoch 2, the most accurate 1.
TOP1 = [0.5, 0.9, 0.8, 0.6]
ASR = [0.9, 0.5, 0.01, 0.0]


@pytest.fixture
def spec(runs, monkeypatch):
    """A cleaning run whose evaluations report TOP1 and ASR."""
    start = runs.train("start", runs.spec(epochs=0, run="start-00000000"))
    original = trainer.Trainer._evaluate

    def evaluate(self, epoch):
        made = {"top1": TOP1[epoch], "asr_top1": ASR[epoch]}
        monkeypatch.setattr(zero_shot.Scores, "fractions", lambda _: made)
        original(self, epoch)

    monkeypatch.setattr(trainer.Trainer, "_evaluate", evaluate)
    return runs.spec(
        kind="cleaning",
        inputs__start=str(start / "model.pt"),
        objective={"mmcl": 1.0, "ssl": 0.5},
        checkpoint={"minutes": 0.0, "keep": 2},
    )


def kept(folder):
    record = json.loads((folder / "run.json").read_text())
    return {entry["rule"]: entry for entry in record["kept"]}


def test_each_rule_has_its_model_and_each_epoch_one_file(runs, spec):
    folder = runs.train("cleaned", spec)
    entries = kept(folder)
    epochs = {rule: entry["epoch"] for rule, entry in entries.items()}
    assert epochs == {"best_asr_below_0.05": 2, "best_asr_below_0.1": 2, "highest_accuracy": 1}
    assert [entries[rule]["oracle"] for rule in sorted(entries)] == [True, True, False]
    files = {folder / entry["file"] for entry in entries.values()}
    assert set((folder / "kept").iterdir()) == files
    assert len(files) == 2
    taken = runs.train("taken", spec | {"kind": "pretraining"}, "--take", "2")
    expected = runs.weights(taken / "epoch-2")
    weights = torch.load(folder / entries["best_asr_below_0.05"]["file"], weights_only=True)
    assert all(torch.equal(expected[name], weights[name]) for name in expected)


def test_the_last_epoch_refers_to_model_pt(runs, spec, monkeypatch):
    monkeypatch.setattr("tests.training.test_kept.TOP1", [0.5, 0.6, 0.7, 0.8])
    folder = runs.train("cleaned", spec)
    assert {entry["file"] for entry in kept(folder).values()} == {"model.pt"}
    assert not list((folder / "kept").iterdir())


def test_a_run_killed_after_a_choice_ends_with_the_same_files(runs, spec):
    whole = runs.train("whole", spec)
    patched = trainer.Trainer._evaluate

    def prepare():
        def evaluate(self, epoch):
            patched(self, epoch)
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.Trainer._evaluate = evaluate

    (process,) = runs.fork("killed", spec, prepare=prepare)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    killed = runs.train("killed", spec)
    assert kept(killed) == kept(whole)
    assert runs.same(
        whole, killed, "model.pt", "metrics.csv", kept(whole)["highest_accuracy"]["file"]
    )


def test_nothing_is_kept_for_pretraining_or_if_disabled(runs, spec):
    for name, changes in (("p", {"kind": "pretraining"}), ("c", {"keep_selected": False})):
        folder = runs.train(name, spec | changes)
        assert kept(folder) == {}
        assert not (folder / "kept").exists()
