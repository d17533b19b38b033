"""BadCLIP's dual-embedding patch: optimised so that patched images look like the target's pairs.

Source: Liang et al., CVPR 2024 (arXiv 2311.12075), with the losses and numbers of its code. There a
part of the images is also augmented together with their captions (EDA), which is left out here.
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
    """Optimise the pixels of a patch in the images' centre, against the given model as a surrogate.

    Args:
        given: The surrogate, which stays as it is, and the pairs.
        target: Class whose name stands in the captions of the target's pairs.
        patch_size: Pixels of its side.
        images: Pairs to learn from, drawn from those whose caption does not name the target.
        epochs: Passes over them; the last batch of each is dropped if it is not full.
        batch_size: Pairs at once.
        learning_rate: Adam's.
        weight: Of the triplet loss; that of the contrastive one is 1.
        margin: Of the triplet loss.
        augment: Chance of a batch that its images go through AutoAugment first.

    Returns:
        ``patch``, float32 [3, p, p] in [0, 1], RGB; the loss of each epoch in the report.

    Raises:
        StepError: No caption names the target, or there are too few others.
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
    """What one step of the optimisation sees.

    Attributes:
        images: uint8 [n, 3, S, S], without patch.
        texts: float32 [n, d], unit norm: of captions that name the target.
        positives: float32 [n, d], unit norm: of images whose captions name the target.
        far: int64 [n], a permutation: the image without patch that each row is to be away from.
    """

    images: Tensor
    texts: Tensor
    positives: Tensor
    far: Tensor


@dataclass(frozen=True)
class _Material:
    """Rows, each with a caption of the target, and the embeddings of the target's images."""

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
                f"no caption names {target!r}, and the patch is learned from pairs that do"
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
        """Yield the full batches of an epoch."""
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
    """Return the contrastive loss with the target's captions plus the weighted triplet loss.

    Args:
        encoder: The surrogate.
        batch: Images and what they are compared with.
        patch: float32 [3, p, p], clamped to [0, 1] before it is put on.
        weight: Of the triplet loss.
        margin: Of the triplet loss.
    """
    patched = encoder.images(put_on(batch.images, patch))
    with torch.no_grad():
        negatives = encoder.images(batch.images)[batch.far]
    nearer = (patched - batch.positives).norm(dim=1) - (patched - negatives).norm(dim=1)
    pull = contrast(patched, batch.texts, encoder.scale)
    return pull + weight * (nearer + margin).clamp(min=0).mean()


def put_on(images: Tensor, patch: Tensor) -> Tensor:
    """Return float32 images of 0 to 255 with the patch in the centre; gradients reach the patch."""
    size, side = images.shape[-1], patch.shape[-1]
    first = (size - side) // 2
    place = slice(first, first + side)
    patched = images.float().clone()
    patched[:, :, place, place] = 255 * patch.clamp(0, 1)
    return patched


def _images(given: Given, rows: np.ndarray) -> Tensor:
    """Return uint8 [n, 3, S, S] images of rows, squashed as those of victims are."""
    size = given.encoder.image_size
    return torch.stack([squash(given.images[row], size) for row in rows]).to(given.device)


def _texts(encoder: Encoder, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return encoder.texts(encoder.tokenizer()(texts).long().to(encoder.device))


def _augmented(images: Tensor) -> Tensor:
    change = AutoAugment()
    return torch.stack([change(image) for image in images])
