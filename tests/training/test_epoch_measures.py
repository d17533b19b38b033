"""Measures that a run takes after each epoch."""

import csv
import os
import signal

import pytest

from workflow_scripts.training import trainer


@pytest.fixture
def spec(runs, world):
    """A run that takes zero-shot accuracy as a measure, in addition to the built-in evaluation."""
    declared = {
        "id": "zero_shot-0000aaaa",
        "measure": "zero_shot",
        "options": {},
        "evaluation": str(world / "evaluation"),
        "pairs": None,
        "held_out": 0,
        "batch_size": 7,
        "device": "cpu",
    }
    return runs.spec(
        epochs=2, measures=[declared["id"]], inputs__measures=[declared],
        checkpoint={"minutes": 0.0, "keep": 2},
    )  # fmt: skip


def rows(file):
    with file.open() as lines:
        return list(csv.DictReader(lines))


def test_measures_are_taken_each_epoch_and_do_not_affect_training(runs, spec):
    folder = runs.train("measured", spec)
    scores = [row for row in rows(folder / "measures.csv") if row["name"] == "accuracy"]
    metrics = rows(folder / "metrics.csv")
    assert [row["value"] for row in scores] == [row["top1"] for row in metrics]
    assert [(row["epoch"], row["of"]) for row in scores] == [("0", "20"), ("1", "20"), ("2", "20")]
    without = spec | {"measures": None, "inputs": spec["inputs"] | {"measures": None}}
    plain = runs.train("plain", without)
    assert runs.same(folder, plain)
    assert not (plain / "measures.csv").exists()


def test_a_resumed_run_has_each_epoch_once(runs, spec):
    whole = runs.train("whole", spec)

    def prepare():
        original = trainer.Trainer._evaluate

        def evaluate(self, epoch):
            original(self, epoch)
            if epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        trainer.Trainer._evaluate = evaluate

    (process,) = runs.fork("killed", spec, prepare=prepare)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    killed = runs.train("killed", spec)
    assert runs.same(whole, killed, "measures.csv", "metrics.csv")
