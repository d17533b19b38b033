"""Training uses the objective, start model and start change of its spec, including custom ones."""

import json
import signal

import pytest
import torch

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import portable_weights

# A minimal deep clustering: predicts which of two random centres is nearest to an image.
OWN = """
import os, signal
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional as F
from workflow_scripts.training.losses._term import LossTerm

class Loss(LossTerm):
    def __init__(self, run, clusters=2):
        super().__init__(run)
        self.head = nn.Linear(run.embed_dim, clusters)
        self.register_buffer("centres", torch.zeros(clusters, run.embed_dim))
        self.calls = 0

    def before_epoch(self, epoch):
        embedded = epoch.embed_images()
        assert embedded.shape == (48, self.run.embed_dim)
        chosen = torch.randperm(len(embedded))[: len(self.centres)]
        self.centres.copy_(embedded[chosen])
        self.head.reset_parameters()
        epoch.forget(list(self.head.parameters()))

    def forward(self, features):
        self.calls += 1
        order = Path(__file__).with_name("order")
        if order.exists() and self.calls == 6:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        images = features.views["plain"].images
        assert features.rows.dtype == torch.int64 and len(features.rows) == len(images)
        nearest = (images @ self.centres.T).argmax(1)
        return F.cross_entropy(self.head(images), nearest)
"""


@pytest.fixture
def own(runs):
    path = runs.folder / "cluster.py"
    path.write_text(OWN)
    return str(path)


def test_a_custom_loss_term_with_a_head_trains_and_resumes(runs, own):
    objective = {"mmcl": 1.0, own: {"weight": 5, "clusters": 3}}
    spec = runs.spec(objective=objective, checkpoint={"minutes": 0.0, "keep": 2})
    whole = runs.train("whole", spec)
    assert not runs.same(whole, runs.train("plain", runs.spec()), "model.pt")
    (runs.folder / "order").touch()
    (process,) = runs.fork("killed", spec)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert runs.same(whole, runs.train("killed", spec))
    assert "objective.terms.0.head.weight" in str(
        torch.load(whole / "optimizer.pt", weights_only=True)["param_groups"]
    )


def test_the_order_of_terms_does_not_affect_the_bytes(runs, own):
    terms = {"ssl": 0.3, own: {"weight": 5, "clusters": 3}, "mmcl": 1.0}
    first = runs.train("first", runs.spec(objective=terms))
    other = runs.train("other", runs.spec(objective=dict(reversed(terms.items()))))
    assert runs.same(first, other)


def test_a_head_is_trained_identically_by_two_processes(runs, own):
    spec = runs.spec(objective={"mmcl": 1.0, own: 1.0}, optimizer__eps=1e-3)
    alone = runs.weights(runs.train("alone", spec))
    together = runs.weights(runs.together("together", spec, processes=2))
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-5, atol=1e-5)


def test_cleaning_starts_from_the_start_model_and_its_optimiser(runs):
    start = runs.train("start", runs.spec(objective={"mmcl": 1.0, "ssl": 1.0}))
    cleaning = runs.spec(
        kind="cleaning",
        objective={"ssl": 1.0},
        epochs=1,
        inputs__start=str(start / "model.pt"),
        optimizer__learning_rate=0.0,
    )
    still = runs.train("still", cleaning)
    assert all(torch.equal(v, runs.weights(start)[k]) for k, v in runs.weights(still).items())
    row = (start / "metrics.csv").read_text().splitlines()[-1].split(",")
    first = (still / "metrics.csv").read_text().splitlines()[1].split(",")
    assert first[5:] == row[5:]

    cleaning["optimizer"] |= {"learning_rate": 0.001, "carry_over": True}
    cleaning["inputs"]["start_optimizer"] = str(start / "optimizer.pt")
    # No optimiser state is written for cleaned models.
    carried = runs.train("carried", cleaning | {"kind": "pretraining"})
    steps = torch.load(carried / "optimizer.pt", weights_only=True)["state"][0]["step"]
    assert steps == 12 + 4
    record = json.loads((carried / "run.json").read_text())
    assert len(record["inputs"]["start"]) == len(record["inputs"]["start_optimizer"]) == 64


def test_a_missing_or_wrong_start_is_an_error(runs, tmp_path, resnet):
    spec = runs.spec(kind="cleaning", inputs__start=str(tmp_path / "none.pt"))
    with pytest.raises(StepError, match=r"the run's start .*none\.pt is missing"):
        runs.train("a", spec)
    other = models.create(ModelSpec(name="small", config=resnet))
    torch.save(portable_weights(other), tmp_path / "other.pt")
    with pytest.raises(StepError, match=r"other\.pt does not fit the model"):
        runs.train("a", runs.spec(kind="cleaning", inputs__start=str(tmp_path / "other.pt")))


def test_shrink_and_perturb_matches_its_formula(runs, transformer):
    spec = runs.spec(epochs=0)
    start = runs.weights(runs.train("start", spec | {"seed": 9}))
    change = {"name": "shrink_and_perturb", "shrink": 0.95, "perturb": 0.01}
    changed = spec | {"start_change": change, "kind": "cleaning"}
    changed["inputs"] = spec["inputs"] | {"start": str(runs.folder / "start" / "model.pt")}
    after = runs.weights(runs.train("changed", changed))
    torch.manual_seed(seed_for(0, "start_change"))
    fresh = models.create(ModelSpec(name="small", config=transformer)).state_dict()
    for name, value in after.items():
        expected = 0.95 * start[name] + 0.01 * fresh[name]
        torch.testing.assert_close(value, expected.clamp(max=4.6052), rtol=1e-6, atol=1e-7)


def test_an_unknown_option_of_a_start_change_is_named(runs):
    with pytest.raises(StepError, match="no option 'shrnk'; did you mean 'shrink'"):
        runs.train("a", runs.spec(start_change={"name": "shrink_and_perturb", "shrnk": 1}))


def test_a_nan_loss_stops_the_run_and_keeps_a_good_checkpoint(runs):
    path = runs.folder / "explode.py"
    path.write_text(
        "from workflow_scripts.training.losses import mmcl\n"
        "class Loss(mmcl.Loss):\n"
        "    calls = 0\n"
        "    def forward(self, features):\n"
        "        self.calls += 1\n"
        "        return super().forward(features) * (1 if self.calls < 7 else float('nan'))\n"
    )
    spec = runs.spec(objective={str(path): 1.0}, checkpoint={"minutes": 0.0, "keep": 2})
    with pytest.raises(StepError, match="NaN or infinite at step 7 of 12; lower the learning"):
        runs.train("a", spec)
    kept = sorted(file.name[:14] for file in (runs.folder / "a" / "checkpoints").glob("step*"))
    assert kept == ["step-000000005", "step-000000006"]


def test_a_batch_larger_than_the_data_is_an_error(runs):
    with pytest.raises(StepError, match="batch of 49 is larger than the training data of 48"):
        runs.train("a", runs.spec(batch_size=49))


def test_ssl_without_augmented_captions_is_an_error(runs):
    with pytest.raises(StepError, match=r"give inputs\.augmented"):
        runs.train("a", runs.spec(objective={"ssl": 1.0}, inputs__augmented=None))
