"""Each loss term equals its formula, computed element by element."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.losses._term import Features, Run
from workflow_scripts.training.objective import Objective
from workflow_scripts.training.views import Embedded

N, D = 5, 4


RUN = Run(embed_dim=D, rows=N, steps=1, epochs=1, seed=0)


@dataclasses.dataclass
class Given:
    """The embeddings on which the formulas are evaluated, element by element."""

    images: torch.Tensor
    texts: torch.Tensor
    augmented_images: torch.Tensor
    augmented_texts: torch.Tensor

    def features(self, **others):
        views = {
            "plain": Embedded(self.images, self.texts),
            "augmented": Embedded(self.augmented_images, self.augmented_texts),
        }
        options = {"bias": torch.tensor(-3.0)} | others
        return Features(views, torch.tensor(7.0), torch.arange(N), **options)


@pytest.fixture
def given():
    torch.manual_seed(0)
    return Given(*(F.normalize(torch.randn(N, D), dim=1) for _ in range(4)))


def loss_of(terms, given, **others):
    objective = Objective(terms, RUN)
    return objective([given.features(**others)] * len(terms)).item()


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
def test_term_matches_its_formula(given, formula):
    loss = loss_of({formula.__name__: 1.0}, given)
    assert loss == pytest.approx(formula(given), rel=1e-5)


def test_pseudo_labels_are_predicted_by_a_head_on_the_image(given):
    objective = Objective({"pseudo_labels": {"weight": 2.0, "classes": 3}}, RUN)
    labels = torch.tensor([2, 0, 1, 1, 0])
    head, total = objective.terms[0].head, 0.0
    for image, label in zip(given.images, labels, strict=True):
        logits = (head.weight @ image + head.bias).tolist()
        total -= math.log(math.exp(logits[label]) / sum(math.exp(x) for x in logits))
    loss = objective([given.features(labels=labels)])
    assert loss.item() == pytest.approx(2 * total / N, rel=1e-5)
    with pytest.raises(StepError, match="set the defence's 'labels'"):
        objective([given.features()])
    with pytest.raises(StepError, match="labelled 3, but the option classes"):
        objective([given.features(labels=labels + 1)])


def test_siglip_with_bias_requires_a_model_with_bias(given):
    with pytest.raises(StepError, match="init_logit_bias"):
        loss_of({"siglip_bias": 1.0}, given, bias=None)


def test_objective_is_the_weighted_sum(given):
    loss = loss_of({"mmcl": 0.5, "ssl": {"weight": 4}}, given)
    assert loss == pytest.approx(0.5 * mmcl(given) + 4 * ssl(given), rel=1e-5)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"mmlc": 1.0}, "unknown loss term 'mmlc'; did you mean 'mmcl'"),
        ({"ssl": {"weight": 1.0, "wieght": 2}}, "no option 'wieght'"),
        ({"ssl": {}}, "weight of loss term 'ssl' must be a number"),
    ],
)
def test_mistakes_are_named(terms, message):
    with pytest.raises(StepError, match=message):
        Objective(terms, RUN)
