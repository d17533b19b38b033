"""A whole run leaves what it promises."""

import json

import pandas as pd
import torch


def test_a_run_leaves_weights_tables_and_its_provenance(runs):
    folder = runs.train("a", runs.spec(objective={"mmcl": 1.0, "ssl": 1.0}))
    metrics = pd.read_csv(folder / "metrics.csv")
    assert metrics["epoch"].tolist() == [0, 1, 2, 3]
    assert metrics["step"].tolist() == [0, 4, 8, 12]
    assert metrics["samples_seen"].tolist() == [0, 48, 96, 144]
    assert metrics["train_loss"].isna().tolist() == [True, False, False, False]
    assert metrics.filter(regex="top").stack().between(0, 1).all()
    record = json.loads((folder / "run.json").read_text())
    assert (record["images"], record["asr_images"]) == (20, 16)
    assert record["resumptions"] == []
    assert len(record["inputs"]["manifest"]) == 64
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert 0 <= weights["logit_scale"] <= 4.6052
    assert not (folder / "checkpoints").exists()
