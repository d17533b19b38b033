"""Weight decay applies to weights only; the learning rate follows the published schedule."""

import math

import numpy as np
import open_clip
import pytest
import torch
from torch import nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.training import optimizer as optimizers
from workflow_scripts.training.optimizer import Schedule, make_optimizer
from workflow_scripts.training.spec import OptimizerSpec

SPEC = OptimizerSpec(learning_rate=0.1, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.2)


def test_weight_decay_excludes_norms_biases_and_logit_scale(resnet):
    model = open_clip.CLIP(**resnet)
    decayed, spared = make_optimizer(model, SPEC).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.2, 0.0)
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm)
        for kind in ("weight", "bias")
    }
    assert norms | {"logit_scale"} <= set(spared["param_names"])
    assert all(n in norms or "bias" in n or n == "logit_scale" for n in spared["param_names"])
    assert {"visual.conv1.weight", "text_projection"} <= set(decayed["param_names"])
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "vision",
    [
        {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16},
    ],
)
def test_published_decay_depends_on_parameter_names(resnet, vision):
    module = nn.Module()
    module.model = open_clip.CLIP(**resnet | {"vision_cfg": vision})
    module.objective = nn.Linear(2, 2)
    spec = OptimizerSpec(**vars(SPEC) | {"decay_on": "published"})
    decayed, spared = (set(g["param_names"]) for g in make_optimizer(module, spec).param_groups)
    expected = {
        f"model.{name}"
        for name, _ in module.model.named_parameters()
        if all(key not in name for key in ("bn", "ln", "bias", "logit_scale"))
    }
    assert decayed == expected
    assert {"objective.weight", "objective.bias"} <= spared
    by_matrices = set(make_optimizer(module, SPEC).param_groups[0]["param_names"])
    more = {name.removeprefix("model.visual.") for name in decayed - by_matrices}
    shortcuts = {f"layer{n}.0.downsample.1.weight" for n in (1, 2, 3, 4)}
    assert more == (shortcuts if vision["patch_size"] is None else {"class_embedding"})


def test_the_rate_warms_up_linearly_then_decays_to_zero_as_a_cosine():
    rates = [Schedule(2.0, 4, 14)(step) for step in range(14)]
    assert rates[:4] == [0.5, 1.0, 1.5, 2.0]
    assert rates[4] == 2.0
    assert rates[9] == pytest.approx(1.0)
    assert rates[13] == pytest.approx(1 + math.cos(math.pi * 0.9))


def test_a_run_shorter_than_its_warm_up_only_warms_up():
    assert [Schedule(1.0, 10, 3)(step) for step in range(3)] == [0.1, 0.2, 0.3]


def published_rates(base, warmup, epochs, steps):
    """Return the rates of all steps of the published loop, which counts epochs from 1."""
    rates = []
    for epoch in range(1, epochs + 1):
        for index in range(steps):
            step = steps * epoch + index
            if step < warmup:
                rates.append(base * (step + 1) / warmup)
            else:
                done, whole = step - warmup, steps * epochs - warmup
                rates.append(0.5 * (1 + np.cos(np.pi * done / whole)) * base)
    return rates


@pytest.mark.parametrize(
    ("base", "warmup", "epochs", "steps", "first"),
    [
        (1e-5, 50, 20, 100_000 // 64, 0.994),  # cleaning: effectively no warm-up
        (1e-3, 10_000, 64, 6_000_000 // 2048, 0.293),  # CC6M, MMCL
        (1e-3, 10_000, 64, 6_000_000 // 1024, 0.586),  # CC6M, MMCL+SSL
    ],
)
def test_a_schedule_shifted_by_an_epoch_is_the_published_one(base, warmup, epochs, steps, first):
    total = epochs * steps
    rates = [Schedule(base, warmup, total, shift=steps)(step) for step in range(total)]
    assert rates == pytest.approx(published_rates(base, warmup, epochs, steps), abs=1e-18)
    assert rates[0] / base == pytest.approx(first, abs=1e-3)
    # Zero one epoch before the end, then rising slightly.
    assert rates[total - steps] == 0
    assert 0 < rates[total - 1] < 0.01 * base


def test_logit_scale_is_clamped_as_in_clip(resnet):
    model = open_clip.CLIP(**resnet)
    for value, kept in ((9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)):
        model.logit_scale.data.fill_(value)
        optimizers.clamp_logit_scale(model)
        assert model.logit_scale.item() == pytest.approx(kept)


class Small(nn.Module):
    """A model and a head, as a loss term may have one."""

    def __init__(self, width=3, head=True):
        super().__init__()
        self.model = nn.Linear(width, width)
        self.head = nn.Linear(2, 2) if head else None


def used(module):
    chosen = make_optimizer(module, SPEC)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    chosen.step()
    return chosen


def test_carry_over_copies_moments_but_not_settings():
    before = used(Small())
    module = Small(head=False)
    after = make_optimizer(module, OptimizerSpec(**{**vars(SPEC), "weight_decay": 9.0}))
    optimizers.carry_over(after, before.state_dict(), "start.pt")
    first = before.state[before.param_groups[0]["params"][0]]
    taken = after.state[module.model.weight]
    assert torch.equal(taken["exp_avg"], first["exp_avg"])
    assert taken["step"] == 1
    assert after.param_groups[0]["weight_decay"] == 9.0
    assert after.param_groups[0]["lr"] == 0.1


def test_carry_over_leaves_new_heads_without_state():
    module = Small()
    after = make_optimizer(module, SPEC)
    optimizers.carry_over(after, used(Small(head=False)).state_dict(), "start.pt")
    assert module.head.weight not in after.state
    assert module.model.weight in after.state


@pytest.mark.parametrize("state", [{"state": {}}, {"a": 1}])
def test_carry_over_rejects_other_files(state):
    with pytest.raises(StepError, match=r"start\.pt is not an optimiser"):
        optimizers.carry_over(make_optimizer(Small(), SPEC), state, "start.pt")


def test_carry_over_rejects_a_different_model():
    with pytest.raises(StepError, match=r"no state that fits model\.weight"):
        optimizers.carry_over(
            make_optimizer(Small(4), SPEC), used(Small()).state_dict(), "start.pt"
        )
