"""The interface of loss terms."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from workflow_scripts.model.contrast import contrast
from workflow_scripts.training.views import AUGMENTED, PLAIN, Embedded, View

__all__ = ["AUGMENTED", "PLAIN", "Epoch", "Features", "LossTerm", "Run", "View", "contrast"]


@dataclass(frozen=True)
class Run:
    """The run that a loss term belongs to.

    ``embed_dim`` is the length d of an embedding, ``rows`` the number of training pairs, and
    ``steps`` the number of steps per epoch.
    """

    embed_dim: int
    rows: int
    steps: int
    epochs: int
    seed: int


@dataclass(frozen=True)
class Features:
    """The inputs of a loss term for one global batch, the same on every process.

    ``views`` maps the names of the term's views to their embeddings. ``scale`` is the scalar
    exp(logit_scale), ``bias`` the model's logit_bias if it has one. ``rows`` are the manifest rows,
    int64 [n]; ``labels`` are the pseudo-labels of the images, int64 [n], if the run has any.
    """

    views: Mapping[str, Embedded]
    scale: Tensor
    rows: Tensor
    bias: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Epoch:
    """The argument of :meth:`LossTerm.before_epoch`.

    ``number`` counts from 0. ``embed_images()`` makes a pass over the data and returns on every
    process the unit-norm embeddings of all training images, float32 [rows, d], in manifest order
    and without augmentation. ``forget(parameters)`` drops the optimiser state of parameters that
    were re-initialised.
    """

    number: int
    seed: int
    embed_images: Callable[[], Tensor]
    forget: Callable[[list[nn.Parameter]], None]


class LossTerm(nn.Module):
    """A term of the objective; a variant is a file that defines a subclass named ``Loss``.

    A subclass declares the ``views`` of a pair that it uses, by default the unaugmented image and
    caption. It may take options as keyword arguments (from the config), have parameters (trained
    together with the model's and saved in checkpoints) and buffers (saved in checkpoints), and set
    ``uses_bias`` or ``uses_labels``. Draw random numbers from torch's global generator, which is
    seeded identically on every process before each step and each epoch.
    """

    views: ClassVar[Mapping[str, View]] = {"plain": PLAIN}
    uses_bias = False
    uses_labels = False

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a global batch.

        Called once per step on the whole batch, also with gradient accumulation.
        """
        raise NotImplementedError

    def before_epoch(self, epoch: Epoch) -> None:
        """Prepare an epoch, e.g. cluster the images; not repeated if a run resumes within it."""

    def resume(self, epoch: int) -> None:
        """Prepare to resume within epoch ``epoch``; parameters and buffers are already restored."""


@torch.no_grad()
def begin_head(head: nn.Linear) -> None:
    """Re-initialise a linear head: weights from N(0, 0.01²), bias 0, as in the published code."""
    head.weight.normal_(0, 0.01)
    head.bias.zero_()
