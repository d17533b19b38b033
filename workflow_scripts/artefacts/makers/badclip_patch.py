"""BadCLIP's dual-embedding patch, optimised to make patched images resemble the target's pairs.

Source: Liang et al., CVPR 2024 (arXiv 2311.12075), with the losses and hyper-parameters of the
published code. That code also augments some of the images together with their captions (EDA), which
is omitted here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import squash
from workflow_scripts.model.contrast import contrast
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.poison.victims import names_target

NEEDS = ("model", "pairs")


def make(
    given: Given,
    *,
    target: str,
    patch_size: Annotated[int, ">= 1"] = 16,
    images: Annotated[int, ">= 2"] = 10_000,
    epochs: Annotated[int, ">= 1"] = 50,
    batch_size: Annotated[int, ">= 2"] = 64,
    learning_rate: Annotated[float, "> 0"] = 1e-3,
    weight: Annotated[float, ">= 0"] = 500.0,
    margin: Annotated[float, ">= 0"] = 1.0,
    augment: Annotated[float, ">= 0", "<= 1"] = 0.5,
) -> Made:
    """Optimise a patch in the centre of images, with the given model as a surrogate.

    Args:
        given: The surrogate model, which is frozen, and the pairs.
        target: Target class; its pairs are those whose caption contains its name.
        patch_size: Side of the patch in pixels.
        images: Number of pairs to train on, drawn from those whose caption does not name the
            target.
        epochs: Passes over these pairs; an incomplete last batch is dropped.
        batch_size: Pairs per batch.
        learning_rate: Learning rate of Adam.
        weight: Weight of the triplet loss, relative to the contrastive loss.
        margin: Margin of the triplet loss.
        augment: Probability that the images of a batch are augmented with AutoAugment.

    Returns:
        ``patch``, float32 [3, p, p] in [0, 1], RGB; the report contains the loss of each epoch.

    Raises:
        StepError: The patch is larger than the images, no caption names the target, or there are
            too few other pairs.
    """
    if patch_size > given.encoder.image_size:
        raise StepError(
            f"patch_size is {patch_size}, but images have {given.encoder.image_size} pixels"
        )
    given.encoder.model.requires_grad_(False)
    material = _Material.of(given, target, images, batch_size)
    start = given.generator("patch").normal(0.5, 0.25, (3, patch_size, patch_size)).clip(0, 1)
    patch = torch.tensor(start, dtype=torch.float32, device=given.device, requires_grad=True)
    optimizer = torch.optim.Adam([patch], learning_rate)
    losses = []
    for epoch in range(epochs):
        total = 0.0
        for batch in material.batches(epoch, batch_size, augment):
            loss = patch_loss(given.encoder, batch, patch, weight=weight, margin=margin)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / (len(material.rows) // batch_size))
        given.log(f"epoch {epoch + 1} of {epochs}: loss {losses[-1]:.4f}")
    learned = patch.detach().clamp(0, 1).cpu().numpy()
    report = {
        "target_pairs": len(material.positives),
        "images": len(material.rows),
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "losses": losses,
    }
    return Made({"patch": learned}, report, (255 * learned).round().astype(np.uint8))


@dataclass(frozen=True)
class Batch:
    """The data of one optimisation step.

    Attributes:
        images: uint8 [n, 3, S, S], without patch.
        texts: float32 [n, d], unit norm, embeddings of captions that name the target.
        positives: float32 [n, d], unit norm, embeddings of images whose captions name the target.
        far: int64 [n], a permutation: for each row, the unpatched image that is its negative.
    """

    images: Tensor
    texts: Tensor
    positives: Tensor
    far: Tensor


@dataclass(frozen=True)
class _Material:
    """The rows to train on, a target caption for each, and the embeddings of target images."""

    given: Given
    rows: np.ndarray
    captions: list[str]
    positives: Tensor

    @classmethod
    def of(cls, given: Given, target: str, images: int, batch_size: int) -> "_Material":
        random, captions = given.generator("pairs"), given.pairs["caption"]
        named = names_target(captions, target)
        if not named.any():
            raise StepError(
                f"no caption names {target!r}, but the patch is learned from pairs that do"
            )
        rows, others = np.flatnonzero(named), np.flatnonzero(~named)
        drawn = random.permutation(others)[:images]
        if len(drawn) < batch_size:
            raise StepError(f"there are only {len(drawn)} pairs; lower batch_size ({batch_size})")
        texts = captions.iloc[random.choice(rows, len(drawn))].tolist()
        with given.encoder.evaluating():
            parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
            positives = torch.cat([given.encoder.images(_images(given, part)) for part in parts])
        return cls(given, drawn, texts, positives)

    def batches(self, epoch: int, batch_size: int, augment: float) -> Iterator[Batch]:
        """Yield the complete batches of an epoch."""
        random = self.given.generator("epoch", epoch)
        order = random.permutation(len(self.rows))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            images = _images(self.given, self.rows[chosen])
            near = torch.from_numpy(random.integers(len(self.positives), size=batch_size))
            yield Batch(
                images=_augmented(images) if random.random() < augment else images,
                texts=_texts(self.given.encoder, [self.captions[number] for number in chosen]),
                positives=self.positives[near.to(images.device)],
                far=torch.from_numpy(random.permutation(batch_size)).to(images.device),
            )


def patch_loss(
    encoder: Encoder, batch: Batch, patch: Tensor, *, weight: float, margin: float
) -> Tensor:
    """Return the contrastive loss with target captions plus the weighted triplet loss.

    Args:
        encoder: The surrogate model.
        batch: The data of this step.
        patch: float32 [3, p, p], clamped to [0, 1] before it is applied.
        weight: Weight of the triplet loss.
        margin: Margin of the triplet loss.
    """
    patched = encoder.images(put_on(batch.images, patch))
    with torch.no_grad():
        negatives = encoder.images(batch.images)[batch.far]
    nearer = (patched - batch.positives).norm(dim=1) - (patched - negatives).norm(dim=1)
    pull = contrast(patched, batch.texts, encoder.scale)
    return pull + weight * (nearer + margin).clamp(min=0).mean()


def put_on(images: Tensor, patch: Tensor) -> Tensor:
    """Return images in [0, 255], float32, with the patch in the centre, differentiable in it."""
    size, side = images.shape[-1], patch.shape[-1]
    first = (size - side) // 2
    place = slice(first, first + side)
    patched = images.float().clone()
    patched[:, :, place, place] = 255 * patch.clamp(0, 1)
    return patched


def _images(given: Given, rows: np.ndarray) -> Tensor:
    """Return the images of rows, uint8 [n, 3, S, S], squashed like those of victims."""
    size = given.encoder.image_size
    return torch.stack([squash(given.images[row], size) for row in rows]).to(given.device)


def _texts(encoder: Encoder, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return encoder.texts(encoder.tokenizer()(texts).long().to(encoder.device))


def _augmented(images: Tensor) -> Tensor:
    change = AutoAugment()
    return torch.stack([change(image) for image in images])
