"""Epochs other than the last can be taken from a run, which can later resume from there."""

import csv
import json
import signal

import pytest
import torch

from workflow_scripts.common.errors import StepError
from workflow_scripts.evaluation import zero_shot
from workflow_scripts.training.taking import BEST, NEAREST, Take

FILES = ("model.pt", "optimizer.pt", "metrics.csv")
TOP1 = [0.0, 0.4, 0.9, 0.9]


@pytest.fixture
def spec(runs, resnet):
    return runs.spec(objective={"mmcl": 1.0, "ssl": 0.5}, model__config=resnet)


@pytest.fixture
def measured(monkeypatch):
    """Make each epoch report the given top-1 accuracy."""

    original = zero_shot.Scores.fractions

    def give(values):
        left = iter(values)

        def fractions(scores):
            return original(scores) | {"top1": next(left)}

        monkeypatch.setattr(zero_shot.Scores, "fractions", fractions)

    return give


def rows(folder):
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_number_stops_the_run_there_and_resuming_gives_the_same_bytes(runs, spec):
    whole = runs.train("whole", spec)
    part = runs.train("part", spec, "--take", "2")
    assert not (part / "model.pt").exists()
    assert rows(part / "epoch-2") == rows(whole)[:3]
    assert (record(part / "epoch-2")["epoch"], record(whole)["epoch"]) == (2, 3)
    assert record(part / "epoch-2")["chosen_by"] == {"rule": "2", "target_top1": None}
    assert runs.same(whole, runs.train("part", spec))
    assert not (part / "checkpoints").exists()


def test_additional_takes_match_those_of_separate_calls(runs, spec):
    alone = runs.train("alone", spec, "--take", "2")
    both = runs.train("both", spec, "--take", "last", "--take", "2", "second")
    assert runs.same(alone / "epoch-2", both / "second", *FILES)
    assert runs.same(both, runs.train("whole", spec))


def test_the_schedule_is_that_of_the_whole_run(runs, spec):
    part = runs.train("part", spec, "--take", "2")
    short = runs.train("short", spec | {"epochs": 2})
    assert not runs.same(part / "epoch-2", short, "model.pt")


@pytest.mark.parametrize("processes", [1, 2])
def test_best_is_the_earliest_highest_accuracy_and_never_the_start_model(
    runs, spec, measured, processes
):
    second = runs.together("second", spec, "--take", "2", processes=processes)
    measured([1.0, *TOP1[1:]])
    best = runs.together("best", spec, "--take", "best_accuracy", processes=processes)
    assert runs.same(second / "epoch-2", best / "best_accuracy", "model.pt", "optimizer.pt")
    assert [float(row["top1"]) for row in rows(best / "best_accuracy")] == [1.0, 0.4, 0.9]
    assert record(best / "best_accuracy")["chosen_by"]["rule"] == "best_accuracy"
    assert not list((best / "snapshots").glob("*"))


def test_last_needs_no_training_after_best(runs, spec):
    whole = runs.train("whole", spec)
    runs.train("best", spec, "--take", "best_accuracy")
    best = runs.train("best", spec)
    assert record(best)["resumptions"][0]["step"] == 12
    assert runs.same(whole, best)


def test_a_run_of_which_the_best_and_the_last_epoch_are_wanted_writes_both(runs, spec):
    retained = ("--retain", "best_accuracy")
    first = runs.train("both", spec, "--take", "best_accuracy", *retained)
    assert not (first / "model.pt").exists()
    assert runs.same(runs.train("both", spec, *retained), runs.train("whole", spec))
    at_once = runs.train("at once", spec, *retained)
    assert runs.same(first / "best_accuracy", at_once / "best_accuracy", *FILES)


def test_nearest_has_the_accuracy_of_the_reference(runs, spec, measured):
    measured(TOP1)
    runs.train("reference", spec)
    reference = runs.folder / "reference.csv"
    reference.write_text("epoch,top1\n1,0.9\n2,0.45\n")
    measured(TOP1)
    arguments = ("--take", "nearest_accuracy", "as-other", "--reference", str(reference))
    folder = runs.train("near", spec, *arguments)
    assert record(folder / "as-other")["epoch"] == 1
    assert record(folder / "as-other")["chosen_by"]["target_top1"] == 0.45


def test_best_survives_a_killed_and_resumed_run(runs, spec, measured):
    measured(TOP1)
    whole = runs.train("whole", spec, "--take", "best_accuracy")
    term = runs.folder / "mmcl_that_dies.py"
    term.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from workflow_scripts.training.losses import mmcl\n"
        "class Loss(mmcl.Loss):\n"
        "    calls = 0\n"
        "    def forward(self, features):\n"
        "        self.calls += 1\n"
        "        order = Path(__file__).with_name('order')\n"
        "        if self.calls == 10 and order.exists():\n"
        "            order.unlink()\n"
        f"            os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "        return super().forward(features)\n"
    )
    fragile = spec | {"objective": {str(term): 1.0, "ssl": 0.5}}
    (runs.folder / "order").touch()
    measured(TOP1)
    (process,) = runs.fork("killed", fragile, "--take", "best_accuracy")
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert list((runs.folder / "killed" / "snapshots" / "best_accuracy").glob("step-000000008-*"))
    measured(TOP1[2:])
    killed = runs.train("killed", fragile, "--take", "best_accuracy")
    assert runs.same(whole / "best_accuracy", killed / "best_accuracy", "metrics.csv")
    one, other = (runs.weights(folder / "best_accuracy") for folder in (whole, killed))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_deleted_outputs_are_restored(runs, spec, capsys):
    part = runs.train("part", spec, "--take", "2")
    content = (part / "epoch-2" / "model.pt").read_bytes()
    (part / "epoch-2" / "model.pt").unlink()
    runs.train("part", spec, "--take", "2")
    assert "already finished" in capsys.readouterr().err
    assert (part / "epoch-2" / "model.pt").read_bytes() == content


def test_an_epoch_that_has_passed_is_an_error_unless_it_was_kept(runs, spec):
    folder = runs.train("x", spec, "--take", "2", "--take", "best_accuracy")
    with pytest.raises(StepError, match=r"epoch 1 of .* selected by --take 1, has passed"):
        runs.train("x", spec, "--take", "1")
    with pytest.raises(StepError, match="selected by --take nearest_accuracy, has passed"):
        reference = str(folder / "metrics.csv")
        runs.train("x", spec, "--take", "nearest_accuracy", "--reference", reference)
    runs.train("x", spec, "--take", "best_accuracy")
    runs.train("x", spec)
    with pytest.raises(StepError, match=r"did not keep the epoch of --take 1; delete"):
        runs.train("x", spec, "--take", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--take", "best"], "unknown --take 'best'"),
        (["--take", "4"], "epochs 1 to 3"),
        (["--take", "0"], "epochs 1 to 3"),
        (["--take", "2", "a/b"], "give one folder name"),
        (["--take", "nearest_accuracy"], "requires --reference"),
        (
            ["--take", "nearest_accuracy", "--reference", "none.csv"],
            r"none\.csv is not the metrics",
        ),
    ],
)
def test_mistakes_are_named(runs, spec, arguments, message):
    with pytest.raises(StepError, match=message):
        runs.train("x", spec, *arguments)


def test_takes_are_rejected_for_cleaning_runs(runs, spec):
    with pytest.raises(StepError, match="--take is for pre-training"):
        runs.train(
            "x",
            spec | {"kind": "cleaning"} | {"inputs": spec["inputs"] | {"start": "x"}},
            "--take",
            "2",
        )


def test_ties_go_to_the_earliest(tmp_path):
    metrics = [{"epoch": epoch, "top1": top1} for epoch, top1 in enumerate([0.9, 0.25, 0.75, 0.75])]
    assert Take(BEST, tmp_path).choice(metrics, 3)["epoch"] == 2
    assert Take(NEAREST, tmp_path, 0.5).choice(metrics, 3)["epoch"] == 1
    assert Take("2", tmp_path).choice(metrics[:2], 3) is None
