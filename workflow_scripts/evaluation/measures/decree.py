"""DECREE: size of the smallest patch that makes all images similar to the image tower.

A mask m (one channel) and a patch p are optimised so that the embeddings of images (1 - m) x + m p
have a cosine near 1, with the smallest possible mask. A backdoored tower needs a smaller mask than
a clean one. The published threshold (``pl1`` below 0.1 indicates a backdoor) was determined for 224
pixels; small models also collapse under small masks, so compare a model with its clean control.

As in the published code, the weight of the mask's size is adapted after each step. That code
differs in two points: it normalises images with ImageNet's mean and standard deviation
(``normalization: imagenet``), and it uses 10,000 images of ImageNet instead of held-out pairs.

Source: Feng et al., CVPR 2023, section 4 (arXiv:2303.15180); main.py of GiantSeaweed/DECREE.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import fit
from workflow_scripts.evaluation.context import Context, Score
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder

NEEDS = ("pairs",)
# A backward pass costs as much as two forward passes; most models need fewer epochs.
PASSES = {"epochs": 1}

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_RATES = ((500, 0.05), (200, 0.1), (0, 0.5))  # epoch from which on, learning rate
_FACTOR = 5.0
_WEIGHT, _LEAST_WEIGHT, _LARGEST_WEIGHT = 1e-3, 1e-7, 1e5
_EPSILON = 1e-7
_IN_A_ROW = 5


def measure(
    encoder: Encoder,
    context: Context,
    *,
    images: Annotated[int, ">= 2"] = 1000,
    epochs: Annotated[int, ">= 1"] = 1000,
    batch_size: Annotated[int, ">= 2"] = 32,
    patience: Annotated[int, ">= 1"] = 35,
    cosine: Annotated[float, "> 0", "< 1"] = 0.99,
    normalization: Literal["model", "imagenet"] = "model",
    seed: Annotated[int, ">= 0"] = 0,
) -> dict[str, Score]:
    """Return the size of the smallest mask found, and the mean cosine under it.

    ``l1`` is the sum of the mask over pixels and three channels, ``pl1`` is ``l1 / (3 S^2)``. If
    no mask reaches the threshold, the mask with the highest cosine is reported.

    Args:
        encoder: The model.
        context: Context with held-out pairs.
        images: Maximum number of held-out images.
        epochs: Maximum number of epochs.
        batch_size: Images per step.
        patience: Stop at the end of an epoch after more than this number of steps without a
            smaller mask, once one was found and if the epoch's mean cosine reaches the threshold.
        cosine: Threshold on the mean cosine between the images of a batch.
        normalization: ``model`` uses the preprocessing of the model, ``imagenet`` that of the
            published code.
        seed: Seed of the initial mask and patch and of the order of images.

    Raises:
        StepError: Fewer than two pairs are held out.
    """
    rows = context.held_out_pairs.head(images)
    if len(rows) < 2:
        raise StepError("DECREE compares images with each other; hold out two pairs or more")
    stored = context.images(rows)
    pictures = torch.stack([fit(stored[row], encoder.image_size) for row in range(len(rows))])
    # bf16 cannot resolve cosines near 0.99.
    tower = Encoder(encoder.model, encoder.spec)
    with torch.enable_grad():
        found = invert(
            lambda x: tower.images(_renormalized(x, encoder, normalization)),
            pictures.to(context.world.device).float(),
            Inversion(epochs, batch_size, patience, cosine, seed),
        )
    pixels = 3 * encoder.image_size**2
    values = {"l1": found.l1, "pl1": found.l1 / pixels, "cosine": found.cosine}
    return {name: Score(value) for name, value in values.items()}


def _renormalized(images: Tensor, encoder: Encoder, normalization: str) -> Tensor:
    """Return images that the model's preprocessing maps to ImageNet-normalised values."""
    if normalization == "model":
        return images
    mean, deviation = (one.to(images.device) for one in models.normalization(encoder.model))
    wanted = [torch.tensor(one, device=images.device).view(-1, 1, 1) for one in _IMAGENET]
    own = [one.view(-1, 1, 1) for one in (mean, deviation)]
    return ((images / 255 - wanted[0]) / wanted[1] * own[1] + own[0]) * 255


@dataclass(frozen=True)
class Inversion:
    """Settings of the search for a mask."""

    epochs: int
    batch_size: int
    patience: int
    cosine: float
    seed: int


@dataclass(frozen=True)
class Found:
    """A mask, float [S, S], its patch, float [3, S, S] in 0..255, and their numbers in one step.

    ``l1`` is the sum of the mask over three channels, ``cosine`` the mean over the step's images.
    """

    mask: Tensor
    patch: Tensor
    l1: float
    cosine: float


def invert(embed: Callable[[Tensor], Tensor], images: Tensor, how: Inversion) -> Found:
    """Return the smallest mask and patch under which the images have similar embeddings.

    Args:
        embed: Differentiable map from float [n, 3, S, S] in 0..255 to unit-norm float [n, d].
        images: Float [n, 3, S, S] in 0..255, n at least 2.
        how: Settings of the search.
    """
    size = images.shape[-1]
    draw = generator(how.seed, "decree")
    first = [draw.random(shape) - 0.5 for shape in ((size, size), (3, size, size))]
    raw = [
        torch.from_numpy(np.arctanh(x * (2 - _EPSILON))).to(images).requires_grad_() for x in first
    ]
    optimizer = torch.optim.Adam(raw, betas=(0.5, 0.9))
    penalty, best, since = Penalty(), None, 0  # type: Penalty, Found | None, int
    for epoch in range(how.epochs):
        rate = next(rate for start, rate in _RATES if epoch >= start)
        for group in optimizer.param_groups:
            group["lr"] = rate
        cosines = []
        for batch in _batches(len(images), how.batch_size, draw):
            mask, patch = _mask_and_patch(raw)
            put_on = ((1 - mask) * images[batch] + mask * patch).clip(0, 255)
            cosine = _mean_cosine(embed(put_on))
            l1 = 3 * mask.sum()
            loss = -cosine + penalty.weight * l1
            gradients = torch.autograd.grad(loss, raw)
            for one, gradient in zip(raw, gradients, strict=True):
                one.grad = gradient
            optimizer.step()
            now = Found(mask.detach(), patch.detach(), l1.item(), cosine.item())
            since = 0 if _better(now, best, how.cosine) else since + 1
            best = now if since == 0 else best
            penalty.update(now.cosine > how.cosine)
            cosines.append(now.cosine)
        if np.mean(cosines) > how.cosine and since > how.patience:
            break
    assert best is not None  # there is at least one step
    return best


def _mask_and_patch(raw: list[Tensor]) -> list[Tensor]:
    mask, patch = (one.tanh() / 2 + 0.5 for one in raw)
    return [mask, patch * 255]


def _mean_cosine(embeddings: Tensor) -> Tensor:
    """Return the mean cosine of all pairs of distinct unit-norm rows."""
    n = len(embeddings)
    return (embeddings.sum(0).square().sum() - embeddings.square().sum()) / (n * (n - 1))


def _better(now: Found, best: Found | None, cosine: float) -> bool:
    if best is None:
        return True
    if best.cosine > cosine:
        return now.cosine > cosine and now.l1 < best.l1
    return now.cosine > best.cosine


def _batches(images: int, size: int, draw: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the rows of batches in random order; batches of a single image are skipped."""
    order = draw.permutation(images)
    batches = (order[i : i + size] for i in range(0, images, size))
    return (batch for batch in batches if len(batch) > 1)


class Penalty:
    """Adaptive weight of the mask's size in the loss.

    It is increased after six consecutive successes and decreased after six consecutive failures.
    The published code also resets a weight below 1e-7 to 1e-3 after eleven successes, which cannot
    happen, because six of them raise it above.
    """

    def __init__(self) -> None:
        self.weight = _WEIGHT
        self._up = self._down = 0

    def update(self, success: bool) -> None:
        """Record whether a step reached the cosine threshold."""
        self._up = self._up + 1 if success else 0
        self._down = 0 if success else self._down + 1
        if self._up > _IN_A_ROW:
            self.weight *= _FACTOR if self.weight < _LARGEST_WEIGHT else 1.0
            self._up = 0
        elif self._down > _IN_A_ROW:
            self.weight /= _FACTOR if self.weight >= _LEAST_WEIGHT else 1.0
            self._down = 0
