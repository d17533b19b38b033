"""Terms receive the views they declare, each embedded once, by the requested model."""

import copy
import math
import signal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.training.losses import PLAIN, Epoch, Features, Run, View
from workflow_scripts.training.losses.par import Loss as PAR
from workflow_scripts.training.losses.roclip import Loss as RoCLIP
from workflow_scripts.training.optimizer import Schedule
from workflow_scripts.training.views import Embedded, Views

RUN = Run(embed_dim=6, rows=40, steps=4, epochs=4, seed=0)
# With a large eps, Adam's step is nearly proportional to the gradient and rounding stays small.
STEPS = {"optimizer__eps": 1e-3, "epochs": 2}


def unit(rows, seed=0):
    torch.manual_seed(seed)
    return F.normalize(torch.randn(rows, 6), dim=1)


def test_a_view_shared_by_two_terms_is_embedded_once():
    start = View(image="plain", text="plain", by_start=True)
    views = Views([{"plain": PLAIN}, {"a": View(image="par_noise"), "b": PLAIN, "c": start}])
    assert len(views.trained) == 3
    assert len(views.by_start) == 2
    assert (len(views.images), views.texts) == (2, ["plain"])
    embeddings = torch.arange(5.0).repeat_interleave(6).expand(2, 30)
    first, second = views.of_terms(embeddings)
    assert first["plain"].images is second["b"].images
    assert [first["plain"].images[0, 0], second["a"].images[0, 0]] == [0, 1]
    assert [second["c"].images[0, 0], second["c"].texts[0, 0]] == [3, 4]
    assert second["a"].texts is None


def test_both_towers_always_run():
    assert [c.source for c in Views([{"x": View(text="eda")}]).columns if c.source == "eda"]
    assert len(Views([{"x": View(text="eda")}]).columns) == 2
    assert len(Views([{"x": View(image="autoaugment")}]).columns) == 2


@pytest.mark.parametrize(
    ("view", "message"),
    [(View(text="plian"), "did you mean 'plain'"), (View(), "neither image nor text")],
)
def test_an_invalid_view_is_a_clear_error(view, message):
    with pytest.raises(StepError, match=message):
        Views([{"x": view}])


def test_par_matches_its_formula_and_pushes_up_to_tau():
    images, texts, start = unit(5), unit(5, 1), unit(5, 2)
    images.requires_grad_()
    views = {"now": Embedded(images, texts), "start": Embedded(start, texts)}
    features = Features(views, torch.tensor(7.0), torch.arange(5))
    target = torch.arange(5)
    clip = (
        F.cross_entropy(7 * images @ texts.T, target)
        + F.cross_entropy(7 * texts @ images.T, target)
    ) / 2
    distance = sum((images[i] - start[i]).square().sum() for i in range(5)) / 5
    pushed = PAR(RUN, tau=4.0)(features)
    torch.testing.assert_close(pushed, clip - distance / 2)
    # Beyond tau, only the contrastive loss and its gradient remain.
    alone = PAR(RUN, tau=distance.item() - 0.01)(features)
    torch.testing.assert_close(alone, clip)
    (gradient,) = torch.autograd.grad(alone, images, retain_graph=True)
    (expected,) = torch.autograd.grad(clip, images)
    torch.testing.assert_close(gradient, expected)


def test_roclip_contrasts_with_the_nearest_caption_of_its_pool():
    term = RoCLIP(RUN, pool=4, every=2)
    images, texts = unit(4), unit(4, 1).requires_grad_()
    features = Features({"augmented": Embedded(images, texts)}, torch.tensor(7.0), torch.arange(4))

    def contrast(second):
        logits, target = 7 * images @ second.T, torch.arange(4)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

    for number, expected in ((0, False), (1, True)):
        term.before_epoch(Epoch(number, 0, None, None))
        assert term.matching == expected
        torch.testing.assert_close(term(features), contrast(texts))
    # Now the pool holds exactly these captions.
    nearest = torch.stack([max(texts, key=lambda t, i=i: float(i @ t)) for i in images]).detach()
    loss = term(features)
    torch.testing.assert_close(loss, contrast(nearest))
    assert not loss.requires_grad, "neither pool nor match carries a gradient to the texts"
    term.resume(2)
    torch.testing.assert_close(term(features), contrast(texts))


def test_the_pool_keeps_the_most_recent_captions():
    term = RoCLIP(RUN, pool=5, every=1)
    term.resume(0)
    for seed in range(3):
        texts = unit(2, seed)
        views = {"augmented": Embedded(unit(2), texts)}
        term(Features(views, torch.tensor(1.0), torch.arange(2)))
    latest = torch.cat([unit(2, 0)[1:], unit(2, 1), unit(2, 2)])
    assert {tuple(row.tolist()) for row in term.pool} == {tuple(row.tolist()) for row in latest}
    # A batch larger than the pool fills it with its last captions.
    term(Features({"augmented": Embedded(unit(9), unit(9, 7))}, torch.tensor(1.0), None))
    assert {tuple(r.tolist()) for r in term.pool} == {tuple(r.tolist()) for r in unit(9, 7)[-5:]}


@pytest.fixture
def start(runs):
    """A model to clean, and the spec of a cleaning run."""
    folder = runs.train("start", runs.spec(epochs=1))
    cleaning = runs.spec(kind="cleaning", inputs__start=str(folder / "model.pt"), **STEPS)
    cleaning["objective"] = {"par": {"weight": 1.0, "tau": 4.0}}
    return folder, cleaning


def test_par_is_the_same_on_several_processes_and_with_accumulation(runs, start):
    _, spec = start
    alone = runs.weights(runs.train("alone", spec))
    others = {
        "two": runs.together("two", spec, processes=2),
        "parts": runs.train("parts", spec | {"accumulation": 3}),
        "both": runs.together("both", spec | {"accumulation": 2}, processes=2),
    }
    for name, folder in others.items():
        weights = runs.weights(folder)
        for key, value in alone.items():
            torch.testing.assert_close(
                weights[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


KILLED = """
import os, signal
from pathlib import Path
from workflow_scripts.training.losses.{term} import Loss as Term

class Loss(Term):
    calls = 0
    def forward(self, features):
        Loss.calls += 1
        order = Path(__file__).with_name("order")
        if order.exists() and Loss.calls == 6:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(features)
"""


@pytest.mark.parametrize(
    ("term", "options"), [("par", {"tau": 4.0}), ("roclip", {"pool": 30, "every": 2})]
)
def test_a_killed_run_with_a_start_model_or_a_pool_gives_the_same_bytes(runs, start, term, options):
    _, spec = start
    own = runs.folder / "own.py"
    own.write_text(KILLED.format(term=term))
    spec |= {"objective": {str(own): {"weight": 1.0, **options}}, "kind": "pretraining"}
    spec["checkpoint"] = {"minutes": 0.0, "keep": 2}
    whole = runs.train("whole", spec)
    (runs.folder / "order").touch()
    (process,) = runs.fork("killed", spec)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert runs.same(whole, runs.train("killed", spec))


@pytest.mark.parametrize(
    ("frozen", "still"),
    [
        ("scale", lambda name: name == "logit_scale"),
        ("image", lambda name: name.startswith("visual.")),
        ("text", lambda name: not name.startswith(("visual.", "logit_scale"))),
    ],
)
def test_frozen_parts_are_unchanged_and_the_rest_is_trained(runs, resnet, frozen, still):
    spec = runs.spec(epochs=0, model__config=resnet)
    before = runs.weights(runs.train("before", spec))
    spec = runs.spec(epochs=1, model__config=resnet, optimizer__freeze=[frozen])
    after = runs.weights(runs.train("after", spec))
    for name, value in after.items():
        assert not still(name) or torch.equal(value, before[name]), name
    # The gradient of key biases is only rounding; unused token embeddings have none at all.
    learned = [n for n, value in after.items() if not torch.equal(value, before[n])]
    assert any(n.startswith("visual.") for n in learned) == (frozen != "image")
    assert ("text_projection" in learned) == (frozen != "text")


def test_a_schedule_may_start_above_its_peak_and_end_above_zero():
    schedule = Schedule(2.0, 4, 14, start=10.0, end=0.5)
    assert [schedule(step) for step in range(5)] == [20.0, 15.5, 11.0, 6.5, 2.0]
    assert schedule(9) == pytest.approx(2.0 * (0.5 + 0.5 * 0.5))
    assert schedule(14) == pytest.approx(1.0)


def test_a_warm_up_may_be_a_share_of_the_run(runs):
    spec = runs.spec(schedule={"shift_epochs": 0, "warmup_share": 0.5}, warmup_steps=0)
    shared = runs.train("shared", spec)
    plain = runs.train("plain", runs.spec(warmup_steps=6))
    assert runs.same(shared, plain)


PICTURE = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 48), dtype=np.uint8))


@pytest.mark.parametrize("name", variants.names("augmentation"))
def test_augmentations_are_deterministic_and_do_not_modify_their_input(name):
    augment = variants.load("augmentation", name)(image_size=32)
    before = PICTURE.clone()
    made = [augment(PICTURE, generator(0, number)) for number in (1, 2, 1)]
    assert torch.equal(PICTURE, before)
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[0], made[1]) == (name == "plain")
    assert {(m.shape, m.dtype) for m in made} == {(torch.Size([3, 32, 32]), torch.uint8)}


def test_pars_noise_only_brightens_half_of_the_images_and_erases_small_squares():
    augment = variants.load("augmentation", "par_noise")(image_size=64)
    grey = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    changed, squares = 0, []
    for number in range(400):
        image = augment(grey, generator(0, number)).int()
        square = (image == torch.tensor([123, 117, 104])[:, None, None]).all(0).sum().item()
        if square > 10:
            squares.append(square)
            assert square == pytest.approx(math.isqrt(square) ** 2, abs=2)
        else:
            assert (image >= 100).all()
        changed += (image > 104).float().mean().item() > 0.2
    assert 150 < changed < 250
    assert 150 < len(squares) < 250
    assert 0.004 < min(squares) / 64**2 < max(squares) / 64**2 < 0.012


def test_the_start_model_is_not_stored_in_checkpoints(runs, start):
    folder, spec = start
    spec = copy.deepcopy(spec) | {"kind": "pretraining"}
    done = runs.train("par", spec)
    assert runs.weights(done).keys() == runs.weights(folder).keys()
    names = torch.load(done / "optimizer.pt", weights_only=True)["param_groups"]
    assert sum(len(group["params"]) for group in names) == len(list(runs.weights(folder)))
