"""What a loss term is given and what it may have of its own."""

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
    ``steps`` the number of steps of an epoch.
    """

    embed_dim: int
    rows: int
    steps: int
    epochs: int
    seed: int


@dataclass(frozen=True)
class Features:
    """One global batch as a loss term sees it, the same on every process.

    ``views`` has the embeddings of the term's views by name. ``scale`` is exp(logit_scale), a
    scalar, and ``bias`` the model's logit_bias if it has one. ``rows`` are the int64 [n] rows of
    the manifest, ``labels`` the int64 [n] classes that a stronger model gave to the images, if
    the run has a labeller.
    """

    views: Mapping[str, Embedded]
    scale: Tensor
    rows: Tensor
    bias: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Epoch:
    """What :meth:`LossTerm.before_epoch` may use.

    ``number`` counts from 0. ``embed_images()`` returns the float32 [rows, d] unit-norm embeddings
    of all training images, in the manifest's order and without augmentation, on every process; it
    takes a pass over the data.
    ``forget(parameters)`` drops the optimiser's state of parameters that were drawn anew.
    """

    number: int
    seed: int
    embed_images: Callable[[], Tensor]
    forget: Callable[[list[nn.Parameter]], None]


class LossTerm(nn.Module):
    """A term of the objective; a variant is a file with a subclass named ``Loss``.

    A subclass names the ``views`` of a pair that it looks at; by default the image and the caption
    as they are. It may take options by keyword (from the config), have parameters (they are trained
    with the model's, and saved in checkpoints) and buffers (saved too), and set ``uses_bias`` or
    ``uses_labels``. Random numbers are to be drawn from torch's global generator, which is seeded
    before each step and each epoch alike on every process.
    """

    views: ClassVar[Mapping[str, View]] = {"plain": PLAIN}
    uses_bias = False
    uses_labels = False

    def __init__(self, run: Run):
        super().__init__()
        self.run = run

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a global batch.

        With accumulation it is called once for a step too, on the whole batch.
        """
        raise NotImplementedError

    def before_epoch(self, epoch: Epoch) -> None:
        """Prepare an epoch, e.g. cluster the images; called once, not again on resumption."""

    def resume(self, epoch: int) -> None:
        """Prepare to go on within epoch ``epoch``; buffers and parameters are restored already."""


@torch.no_grad()
def begin_head(head: nn.Linear) -> None:
    """Draw a new linear head: weights of N(0, 0.01²), bias 0, as in the published code."""
    head.weight.normal_(0, 0.01)
    head.bias.zero_()
