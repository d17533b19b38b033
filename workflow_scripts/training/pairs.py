"""The training data: images read from tars by offset, tokens from memory-mapped arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from torch import Tensor
from torch.utils.data import Dataset

from workflow_scripts.captions.stored import StoredTokens
from workflow_scripts.common import variants
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import stack
from workflow_scripts.data.stored_images import Images
from workflow_scripts.training.views import Source, Views


@dataclass
class Batch:
    """A batch of one process.

    ``images`` maps sources to uint8 [n, 3, S, S]; ``texts`` maps kinds of text to int64 tokens
    [n, length], where the length may differ between kinds.
    """

    images: dict[Source, Tensor]
    texts: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter([*self.images.values(), *self.texts.values()])))

    def parts(self, count: int) -> list["Batch"]:
        """Split the batch into ``count`` micro-batches of nearly equal size."""

        def split(views: dict) -> list[dict]:
            pieces = {key: value.tensor_split(count) for key, value in views.items()}
            return [{key: pieces[key][part] for key in pieces} for part in range(count)]

        return [Batch(*both) for both in zip(split(self.images), split(self.texts), strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory (called by the data loader)."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        images = {key: change(value) for key, value in self.images.items()}
        return Batch(images, {key: change(value) for key, value in self.texts.items()})


class Pairs(Dataset):
    """Image-text pairs, fetched one batch at a time.

    Items are indexed by ``(epoch, row)``; augmentations depend on these and the seed alone. An
    image is decoded once for all its views.

    Args:
        images: The images of the manifest.
        manifest: The manifest.
        tokens: Token array of its captions, see ``captions/stored.py``.
        augmented: Token array of the augmented captions; may be None if no view uses them.
        size: Side of the model's input in pixels.
        context_length: Length of the model's text input in tokens.
        seed: The run's seed.
        cut: Drop the token columns beyond the longest text of a batch.
        views: The views to load.

    Attributes:
        bytes: Upper bound of the memory of a pair in a batch.

    Raises:
        StepError: A view uses augmented captions, but none are given, or a file is damaged.
    """

    def __init__(
        self,
        *,
        images: Images,
        manifest: str | Path,
        tokens: str | Path,
        augmented: str | Path | None,
        size: int,
        context_length: int,
        seed: int,
        cut: bool,
        views: Views,
    ):
        self.images = images
        files = {"plain": tokens, "eda": augmented}
        used = {kind: file for kind in views.texts if (file := files[kind]) is not None}
        if len(used) < len(views.texts):
            raise StepError(
                "the objective or held_out uses augmented captions; give inputs.augmented"
            )
        self.texts = {
            kind: StoredTokens(file, manifest, len(images), context_length)
            for kind, file in used.items()
        }
        self.seed, self.cut = seed, cut
        # uint8 pixels and int64 tokens.
        self.bytes = len(views.images) * 3 * size**2 + len(views.texts) * context_length * 8
        self._augmentations = {source: _augmentation(source, size) for source in views.images}

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, items: list[tuple[int, int]]) -> "Batch | StepError":
        try:
            return self._batch(items)
        except StepError as error:
            return error

    def _batch(self, items: list[tuple[int, int]]) -> Batch:
        rows = [row for _, row in items]
        pictures = [self.images[row] for row in rows] if self._augmentations else []
        images = {}
        for source, augment in self._augmentations.items():
            # Draw 0 adds no name, which keeps the seeds of earlier versions.
            names = ("augment", source.draw) if source.draw else ("augment",)
            images[source] = stack(
                [
                    augment(picture, generator(self.seed, *names, *item))
                    for picture, item in zip(pictures, items, strict=True)
                ]
            )
        texts = {kind: self._texts(tokens, rows) for kind, tokens in self.texts.items()}
        return Batch(images, texts)

    def _texts(self, tokens: StoredTokens, rows: list[int]) -> Tensor:
        texts = tokens[rows].astype(np.int64)
        if self.cut:
            # The end-of-text token has the highest id of the vocabulary.
            texts = texts[:, : texts.argmax(1).max() + 1]
        return torch.from_numpy(texts)


def _augmentation(source: Source, size: int) -> Callable[[Tensor, np.random.Generator], Tensor]:
    options = source.declaration()
    name = options.pop("name")
    variants.check_options("augmentation", name, options)
    return variants.load("augmentation", name)(image_size=size, **options)


def read_labels(path: str | Path, rows: int) -> Tensor:
    """Read the labels of a manifest's images, int64 [rows].

    Args:
        path: The values of an artefact.
        rows: Number of rows of the manifest.

    Raises:
        StepError: The file is missing or damaged, or does not match the manifest.
    """
    try:
        array = load_file(path)["labels"]
    except (OSError, SafetensorError, KeyError) as error:
        raise StepError(f"the labels {path} cannot be read: {error}") from error
    if array.shape != (rows,) or array.dtype != np.int64 or (rows and array.min() < 0):
        raise StepError(
            f"{path} must hold one class (int64) for each of {rows} rows, got {array.dtype} of "
            f"shape {array.shape}"
        )
    return torch.from_numpy(array)
