"""Looking for the smallest change that sends images to each class.

For each class, a mask m (one channel) and a pattern p are optimised so that images (1 - m) x + m p
of other classes are classified as it, with as small a mask as possible. A backdoor's target needs
a smaller mask than other classes do.

Source: Wang et al. (Neural Cleanse), S&P 2019; targets that are captions: Huang et al., ICLR 2025
(arXiv 2502.01385). Here, steps are fewer, and the weight of the mask's size follows the share of
successes from step to step.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.common.seeds import generator
from workflow_scripts.evaluation.auditing.material import Classifier, Material
from workflow_scripts.evaluation.auditing.parts import Part, png

SUCCESS = 0.95
"""Share of a batch that has to go to the class for a mask to count."""

LEAST_SIZE = 1e-6
"""Share of an image below which masks are as good as empty."""

_RATE, _BETAS = 0.1, (0.5, 0.9)
_WEIGHT, _UP, _DOWN = 1.0, 1.15, 0.85
_CHECKED_AT_ONCE = 256
_RECENT = 0.7  # of the average over steps that the weight follows


@dataclass(frozen=True)
class Search:
    """How long to look.

    Attributes:
        steps: Steps for each class.
        images: Images of a step.
        at_once: Images of a step of several classes together.
        seed: Of first masks and of the order of images.
    """

    steps: int
    images: int = 32
    at_once: int = 256
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """A class's smallest mask, float [S, S], and its pattern, float [3, S, S], 0 to 255."""

    mask: Tensor
    pattern: Tensor


def invert_classes(
    classifier: Classifier,
    material: Material,
    search: Search,
    *,
    captions: Sequence[str] = (),
    step: Callable[[], object] = lambda: None,
) -> Part:
    """Invert a trigger for each class, or for each caption as one class more.

    Half of the images are searched with; the other half tell the share that was fooled.

    Args:
        classifier: Of the model.
        material: The images.
        search: How long to look.
        captions: Texts that are the targets, in place of the classes.
        step: Called after each target.

    Returns:
        ``targets``, one for each class or caption: its ``size``, the share of the image that the
        mask covers; ``success`` on images that it was not made with, those of the class left out;
        ``clean``, the share of the same images without it; and a ``picture``.
    """
    classes = len(material.names)
    heads, wanted = [classifier.weights] * classes, list(range(classes))
    if captions:
        texts = _texts(classifier, captions)
        heads = [torch.cat([classifier.weights, text[None]]) for text in texts]
        wanted = [classes] * len(captions)
    labels = torch.from_numpy(material.labels)
    half = len(labels) // 2
    group = max(1, search.at_once // search.images)
    targets = []
    for first in range(0, len(wanted), group):
        numbers = range(first, min(first + group, len(wanted)))
        head = torch.stack([heads[n] for n in numbers])
        goals = torch.tensor([wanted[n] for n in numbers], device=head.device)
        found = invert(
            classifier,
            material.images[:half],
            labels[:half],
            heads=head,
            goals=goals,
            search=search,
            draw=[generator(search.seed, "inversion", n) for n in numbers],
        )
        for one, goal, weights in zip(found, goals.tolist(), head, strict=True):
            rows = half + np.flatnonzero(material.labels[half:] != goal)
            images = material.images[rows]
            targets.append(_checked(classifier, images, one, weights, goal))
            step()
    return {"targets": targets}


def _texts(classifier: Classifier, captions: Sequence[str]) -> Tensor:
    encoder = classifier.encoder
    if not captions:
        return torch.empty(0, encoder.embed_dim, device=encoder.device)
    tokens = encoder.tokenizer()(list(captions)).long().to(encoder.device)
    with torch.no_grad():
        return encoder.texts(tokens)


def invert(
    classifier: Classifier,
    images: Tensor,
    labels: Tensor,
    *,
    heads: Tensor,
    goals: Tensor,
    search: Search,
    draw: list[np.random.Generator],
) -> list[Found]:
    """Return the smallest mask of each target, or its last one if none was good enough.

    Args:
        classifier: Of the model.
        images: uint8 [n, 3, S, S] to search with.
        labels: int64 [n], their classes; a target's own images are not used.
        heads: float [t, classes, d], the classifier of each target.
        goals: int64 [t], the class of each target.
        search: How long to look.
        draw: A generator for each target.
    """
    device, size = heads.device, images.shape[-1]
    start = [torch.from_numpy(d.normal(0, 0.1, (4, size, size))).float() for d in draw]
    raw = torch.stack(start).to(device).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=_RATE, betas=_BETAS)
    others = [np.flatnonzero(labels.numpy() != int(goal)) for goal in goals]
    best = _Best(len(goals), device)
    for step in range(search.steps):
        rows = [d.choice(o, search.images) for d, o in zip(draw, others, strict=True)]
        batch = images[np.stack(rows)].to(device).float()
        mask, pattern = _mask_and_pattern(raw)
        logits = _logits(classifier, batch, mask, pattern, heads)
        wanted = goals[:, None].expand(logits.shape[:2])
        losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
        sizes = mask.mean((1, 2, 3))
        loss = (losses.view(wanted.shape).mean(1) + best.weight * sizes).sum()
        (raw.grad,) = torch.autograd.grad(loss, [raw])
        optimizer.step()
        success = (logits.argmax(2) == wanted).float().mean(1)
        best.update(success, sizes, mask, pattern, last=step + 1 == search.steps)
    return best.found


def _logits(
    classifier: Classifier, batch: Tensor, mask: Tensor, pattern: Tensor, heads: Tensor
) -> Tensor:
    """Return float [t, n, classes] of images, float [t, n, 3, S, S], under each target's mask."""
    put_on = (1 - mask[:, None]) * batch + mask[:, None] * pattern[:, None]
    embedded = classifier.encoder.images(put_on.flatten(0, 1)).view(*batch.shape[:2], -1)
    return classifier.encoder.scale * (embedded @ heads.transpose(1, 2))


class _Best:
    """The smallest mask of each of t targets so far, and the weight of its size from now on.

    Args:
        targets: t.
        device: Of the tensors that it is given.
    """

    def __init__(self, targets: int, device: torch.device):
        self.weight = torch.full((targets,), _WEIGHT, device=device)
        self.found: list[Found] = []
        self._least = [math.inf] * targets
        self._recent: Tensor | None = None

    def update(
        self, success: Tensor, sizes: Tensor, mask: Tensor, pattern: Tensor, *, last: bool
    ) -> None:
        """Take in a step: float [t] shares of successes and sizes, the masks and the patterns."""
        before = success if self._recent is None else self._recent
        self._recent = _RECENT * before + (1 - _RECENT) * success
        self.weight = self.weight * torch.where(self._recent >= SUCCESS, _UP, _DOWN)
        now = [Found(m[0].detach(), p.detach()) for m, p in zip(mask, pattern, strict=True)]
        self.found = self.found or now
        recent = self._recent.tolist()
        for n, (share, size) in enumerate(zip(recent, sizes.tolist(), strict=True)):
            if share >= SUCCESS and size < self._least[n]:
                self._least[n], self.found[n] = size, now[n]
            elif last and math.isinf(self._least[n]):
                self.found[n] = now[n]


def _mask_and_pattern(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks [t, 1, S, S] of 0 to 1 and patterns [t, 3, S, S] of 0 to 255."""
    bounded = raw.tanh() / 2 + 0.5
    return bounded[:, :1], 255 * bounded[:, 1:]


@torch.no_grad()
def _checked(classifier: Classifier, images: Tensor, found: Found, head: Tensor, goal: int) -> Part:
    """Return the size of a mask, its success on images, uint8 [n, 3, S, S], and its picture."""
    clean = fooled = 0
    for batch in images.split(_CHECKED_AT_ONCE):
        pixels = batch.to(head.device).float()
        put_on = (1 - found.mask) * pixels + found.mask * found.pattern
        near = [(classifier.encoder.images(x) @ head.T).argmax(1) for x in (pixels, put_on)]
        clean += int((near[0] == goal).sum())
        fooled += int((near[1] == goal).sum())
    on_grey = found.mask * found.pattern + (1 - found.mask) * 128
    return {
        "size": float(found.mask.mean()),
        "success": fooled / max(1, len(images)),
        "clean": clean / max(1, len(images)),
        "images": len(images),
        "picture": png(on_grey.round().clamp(0, 255).to(torch.uint8)),
    }


def anomalies(sizes: np.ndarray) -> np.ndarray:
    """Return how far each size is below the median, in robust standard deviations of log sizes.

    Args:
        sizes: float [n], positive.
    """
    logs = np.log(np.maximum(sizes, LEAST_SIZE))
    spread = stats.median_abs_deviation(logs, scale="normal")
    return (np.median(logs) - logs) / max(spread, 1e-9)


def least_anomaly(targets: int, level: float = 0.05) -> float:
    """Return the anomaly that any of ``targets`` exceeds with probability ``level`` by chance.

    Bonferroni's bound for normal deviations; with few targets, the median absolute deviation is
    noisy and the true probability is higher. Hence the limits on sizes beside it.
    """
    return float(stats.norm.isf(level / max(1, targets)))
