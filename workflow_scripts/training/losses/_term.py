"""What a loss term is given and what it may have of its own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Features:
    """The embeddings of one global batch, the same on every process.

    ``images``, ``texts`` and their augmented views are float32 [n, d] of unit norm; the views
    are None unless a term of the objective asks for them. ``scale`` is exp(logit_scale), a
    scalar, and ``bias`` the model's logit_bias if it has one. ``rows`` are the int64 [n] rows of
    the manifest, ``labels`` the int64 [n] classes that a stronger model gave to the images, if
    the run has a labeller.
    """

    images: Tensor
    texts: Tensor
    augmented_images: Tensor | None
    augmented_texts: Tensor | None
    scale: Tensor
    rows: Tensor
    bias: Tensor | None = None
    labels: Tensor | None = None


@dataclass(frozen=True)
class Epoch:
    """What :meth:`LossTerm.before_epoch` may use.

    ``embed_images()`` returns the float32 [rows, d] unit-norm embeddings of all training images,
    in the manifest's order and without augmentation, on every process; it takes a pass over the
    data. ``forget(parameters)`` drops the optimiser's state of parameters that were drawn anew.
    """

    number: int
    seed: int
    embed_images: Callable[[], Tensor]
    forget: Callable[[list[nn.Parameter]], None]


class LossTerm(nn.Module):
    """A term of the objective; a variant is a file with a subclass named ``Loss``.

    A subclass may take options by keyword (from the config), have parameters (they are trained
    with the model's, and saved in checkpoints) and buffers, and set ``uses_augmented``,
    ``uses_bias`` or ``uses_labels``. Random numbers are to be drawn from torch's global generator,
    which is seeded before each step and each epoch alike on every process.
    """

    uses_augmented = False
    uses_bias = False
    uses_labels = False

    def __init__(self, embed_dim: int):
        super().__init__()
        self.embed_dim = embed_dim

    def forward(self, features: Features) -> Tensor:
        """Return the scalar loss of a global batch."""
        raise NotImplementedError

    def before_epoch(self, epoch: Epoch) -> None:
        """Prepare an epoch, e.g. cluster the images; called once, not again on resumption."""


@torch.no_grad()
def begin_head(head: nn.Linear) -> None:
    """Draw a new linear head: weights of N(0, 0.01²), bias 0, as in the published code."""
    head.weight.normal_(0, 0.01)
    head.bias.zero_()


def contrast(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric InfoNCE of two views: (CE(s A Bᵀ) + CE(s B Aᵀ)) / 2.

    Source: Radford et al., 2021, figure 3.

    Args:
        first: float32 [n, d], unit norm.
        second: float32 [n, d], unit norm; row i belongs to row i of ``first``.
        scale: Scalar s.
    """
    logits = scale * first @ second.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
