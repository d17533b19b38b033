"""A complete run writes all of its outputs."""

import json

import pandas as pd
import pytest
import torch

from workflow_scripts.common.code_version import changed_since
from workflow_scripts.common.errors import StepError
from workflow_scripts.training import optimizer


def test_requesting_gpus_without_any_is_an_error(runs):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(StepError, match=r"no GPU for process 0 .* \(0 available\)"):
        runs.train("a", runs.spec(), "--processes", "1")


def test_a_run_writes_weights_tables_and_provenance(runs):
    folder = runs.train("a", runs.spec(objective={"mmcl": 1.0, "ssl": 1.0}))
    metrics = pd.read_csv(folder / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1, 2, 3]
    assert metrics["step"].tolist() == [0, 4, 8, 12]
    assert metrics["samples_seen"].tolist() == [0, 48, 96, 144]
    assert metrics["train_loss"].isna().tolist() == [True, False, False, False]
    assert metrics.filter(regex="top").stack().between(0, 1).all()
    record = json.loads((folder / "run.json").read_text())
    assert record["evaluation"] == {"images": 20, "asr_images": 16}
    assert record["resumptions"] == []
    assert len(record["inputs"]["manifest"]) == 64
    assert {"training/losses/mmcl.py", "poison/triggers/random.py"} < set(record["code"]["files"])
    assert "training/losses/siglip.py" not in record["code"]["files"]
    assert changed_since(record) == []
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert 0 <= weights["logit_scale"] <= 4.6052
    assert not (folder / "checkpoints").exists()


def test_a_shifted_schedule_uses_the_rates_of_the_next_epoch(runs, monkeypatch):
    def rates(name, **changes):
        used = []
        original = optimizer.set_learning_rate
        monkeypatch.setattr(
            optimizer, "set_learning_rate", lambda o, rate: (used.append(rate), original(o, rate))
        )
        runs.train(name, runs.spec(**changes))
        monkeypatch.undo()
        return used

    plain, shifted = rates("plain"), rates("shifted", schedule__shift_epochs=1)
    assert shifted[:8] == plain[4:]
    assert shifted[8] == 0


def test_a_shift_with_a_warm_up_as_long_as_the_run_is_rejected(runs):
    with pytest.raises(StepError, match="warmup_steps is 12 and the run has 12 steps"):
        runs.train("a", runs.spec(warmup_steps=12, schedule__shift_epochs=1))
