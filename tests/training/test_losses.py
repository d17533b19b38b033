"""Each loss term is its formula, written out number by number."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.losses._term import Features
from workflow_scripts.training.objective import Objective

N, D = 5, 4


@pytest.fixture
def features():
    torch.manual_seed(0)
    views = [F.normalize(torch.randn(N, D), dim=1) for _ in range(4)]
    return Features(*views, scale=torch.tensor(7.0), rows=torch.arange(N), bias=torch.tensor(-3.0))


def cross_entropy(scale, first, second):
    """-1/n sum_i log( exp(s a_i·b_i) / sum_j exp(s a_i·b_j) )"""
    first, second, total = first.double().numpy(), second.double().numpy(), 0.0
    for i in range(N):
        own = math.exp(scale * np.dot(first[i], second[i]))
        total -= math.log(own / sum(math.exp(scale * np.dot(first[i], b)) for b in second))
    return total / N


def mmcl(f):
    return (cross_entropy(7, f.images, f.texts) + cross_entropy(7, f.texts, f.images)) / 2


def ssl(f):
    images = cross_entropy(7, f.images, f.augmented_images)
    return (images + cross_entropy(7, f.texts, f.augmented_texts)) / 2


def siglip(f):
    total = 0.0
    for i in range(N):
        for j in range(N):
            sign = 1 if i == j else -1
            total += math.log(1 + math.exp(-sign * 7 * float(f.images[i] @ f.texts[j])))
    return total / N**2


def siglip_bias(f):
    total = 0.0
    for i in range(N):
        for j in range(N):
            logit = 7 * float(f.images[i] @ f.texts[j]) - 3
            total += math.log(1 + math.exp(-logit if i == j else logit))
    return total / N


@pytest.mark.parametrize("formula", [mmcl, ssl, siglip, siglip_bias])
def test_term_matches_its_formula(features, formula):
    loss = Objective({formula.__name__: 1.0}, D)(features)
    assert loss.item() == pytest.approx(formula(features), rel=1e-5)


def test_pseudo_labels_are_predicted_by_a_head_on_the_image(features):
    objective = Objective({"pseudo_labels": {"weight": 2.0, "classes": 3}}, D)
    labels = torch.tensor([2, 0, 1, 1, 0])
    head, total = objective.terms[0].head, 0.0
    for image, label in zip(features.images, labels, strict=True):
        logits = (head.weight @ image + head.bias).tolist()
        total -= math.log(math.exp(logits[label]) / sum(math.exp(x) for x in logits))
    loss = objective(dataclasses.replace(features, labels=labels))
    assert loss.item() == pytest.approx(2 * total / N, rel=1e-5)
    with pytest.raises(StepError, match="give the defence a labeller"):
        objective(features)
    with pytest.raises(StepError, match="labelled 3, but the option classes"):
        objective(dataclasses.replace(features, labels=labels + 1))


def test_siglip_with_a_bias_needs_a_model_that_has_one(features):
    with pytest.raises(StepError, match="init_logit_bias"):
        Objective({"siglip_bias": 1.0}, D)(dataclasses.replace(features, bias=None))


def test_objective_is_the_weighted_sum(features):
    loss = Objective({"mmcl": 0.5, "ssl": {"weight": 4}}, D)(features)
    assert loss.item() == pytest.approx(0.5 * mmcl(features) + 4 * ssl(features), rel=1e-5)


def test_only_ssl_asks_for_augmented_views():
    assert Objective({"mmcl": 1, "ssl": 1}, D).uses_augmented
    assert not Objective({"mmcl": 1, "siglip": 0.1}, D).uses_augmented


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"mmlc": 1.0}, "unknown loss term 'mmlc'; did you mean 'mmcl'"),
        ({"ssl": {"weight": 1.0, "wieght": 2}}, "no option 'wieght'"),
        ({"ssl": {}}, "weight of loss term 'ssl' has to be a number"),
    ],
)
def test_mistakes_are_named(terms, message):
    with pytest.raises(StepError, match=message):
        Objective(terms, D)
