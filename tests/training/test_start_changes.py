"""Data-free start changes, compared with plain loops."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.model import models
from workflow_scripts.model.spec import ModelSpec
from workflow_scripts.model.weights import load
from workflow_scripts.training.start_changes.channel_lipschitz import change

U = 1.5


@pytest.fixture
def trained(resnet):
    """A ResNet with random batch norm parameters and statistics, as after training."""
    torch.manual_seed(0)
    config = copy.deepcopy(resnet)
    config["vision_cfg"]["layers"] = [2, 1, 1, 1]
    model = models.create(ModelSpec(name="small", config=config)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.1, 2)
    return model


def _convolution_of(norm):
    """Return the name of the convolution that precedes a batch norm in open_clip's ResNet."""
    return norm.replace("downsample.1", "downsample.0").replace("bn", "conv")


def _pruned(visual):
    """Return the channels that should be pruned, by the name of their batch norm."""
    modules, found = dict(visual.named_modules()), {}
    for name, norm in modules.items():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        kernel = modules[_convolution_of(name)].weight.detach().numpy().astype(np.float64)
        bounds = []
        for channel in range(len(kernel)):
            matrix = kernel[channel].reshape(kernel.shape[1], -1)
            gain = norm.weight[channel].item() / np.sqrt(norm.running_var[channel].item() + 1e-5)
            bounds.append(np.linalg.svd(matrix * gain, compute_uv=False)[0])
        threshold = np.mean(bounds) + U * np.std(bounds, ddof=1)
        found[name] = [channel for channel, bound in enumerate(bounds) if bound > threshold]
    return found


def test_channel_lipschitz_prunes_the_same_channels_as_a_plain_loop(trained):
    expected, before = _pruned(trained.visual), copy.deepcopy(trained.state_dict())
    # Three in the stem, three in each block, one in each shortcut.
    assert len(expected) == 3 + 5 * 3 + 4
    assert sum(map(len, expected.values())) > 20
    change(trained, None, u=U)
    for name, value in trained.state_dict().items():
        norm, _, kind = name.removeprefix("visual.").rpartition(".")
        if norm in expected and kind in ("weight", "bias"):
            before[name][expected[norm]] = 0
        assert torch.equal(value, before[name]), name


def test_a_pruned_channel_is_0_for_every_image(trained):
    pruned = _pruned(trained.visual)["layer1.0.bn1"]
    change(trained, None, u=U)
    outputs = []
    norm = dict(trained.visual.named_modules())["layer1.0.bn1"]
    norm.register_forward_hook(lambda *arguments: outputs.append(arguments[2].clone()))
    trained.visual(torch.rand(2, 3, 32, 32))
    zero = (outputs[0] == 0).all((0, 2, 3))
    assert zero.nonzero().flatten().tolist() == pruned
    assert pruned


def test_a_high_threshold_prunes_nothing(trained):
    before = copy.deepcopy(trained.state_dict())
    change(trained, None, u=100.0)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


def test_a_model_without_batch_norm_is_a_clear_error(transformer):
    model = models.create(ModelSpec(name="small", config=transformer))
    with pytest.raises(StepError, match="needs an image tower with batch norm"):
        change(model, None)


def test_a_cleaning_run_with_zero_epochs_gives_the_changed_start_model(runs, resnet):
    model = {"name": "small", "config": resnet, "pretrained": None}
    start = runs.train("start", runs.spec(model=model, epochs=1))
    spec = runs.spec(
        kind="cleaning",
        model=model,
        epochs=0,
        # As in the paper's config: a warm-up and a shifted schedule.
        warmup_steps=50,
        schedule={"shift_epochs": 1},
        held_out=8,
        start_change={"name": "channel_lipschitz", "u": U},
        inputs__start=str(start / "model.pt"),
    )
    folder = runs.train("pruned", spec)
    expected = models.create(ModelSpec(**model))
    load(expected, runs.weights(start), start)
    change(expected, None, u=U)
    weights = runs.weights(folder)
    assert all(torch.equal(weights[name], value) for name, value in expected.state_dict().items())
    assert not all(torch.equal(value, runs.weights(start)[n]) for n, value in weights.items())
    metrics = pd.read_csv(folder / "metrics.csv")
    assert metrics["epoch"].tolist() == [0]
    assert metrics[["top1", "asr_top1", "heldout_mmcl"]].notna().all(axis=None)
    assert pd.read_csv(folder / "timings.csv").empty
