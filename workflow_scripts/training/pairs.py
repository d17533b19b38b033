"""The training data: images read by place out of tars, tokens out of memory-mapped arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
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
    """Pairs of one process, in the views that are asked for.

    ``images`` are uint8 [n, 3, S, S] by source, ``texts`` int64 tokens [n, length] by kind; the
    lengths of two kinds may differ.
    """

    images: dict[Source, Tensor]
    texts: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter([*self.images.values(), *self.texts.values()])))

    def parts(self, count: int) -> list["Batch"]:
        """Return the batch as ``count`` nearly equal micro-batches."""

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
    """Image-text pairs, fetched a batch at a time.

    An item is ``(epoch, row)``: the augmentation of a row differs from epoch to epoch, and
    depends on nothing else. An image is decoded once for all its views.

    Args:
        images: The images of the manifest.
        manifest: The manifest.
        tokens: Array of its captions' tokens, see ``captions/stored.py``.
        augmented: Likewise for the augmented captions; may be None if no view looks at them.
        size: Side of the model's input in pixels.
        context_length: Length of the model's text input.
        seed: The run's seed.
        cut: Drop the token columns after the longest text of a batch.
        views: What is loaded of each pair.

    Attributes:
        bytes: Memory of a pair in a batch, at most.

    Raises:
        StepError: A view looks at the augmented captions, and they are not given; or a file is
            broken.
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
        given = {kind: file for kind in views.texts if (file := files[kind]) is not None}
        if len(given) < len(views.texts):
            raise StepError(
                "the objective, or held_out, uses augmented captions: give inputs.augmented"
            )
        self.texts = {
            kind: StoredTokens(file, manifest, len(images), context_length)
            for kind, file in given.items()
        }
        self.seed, self.cut = seed, cut
        # Of the pixels and tokens of one pair in a batch.
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
            # Views that were drawn before there were several keep their seeds.
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
            # The end-of-text token is the vocabulary's highest.
            texts = texts[:, : texts.argmax(1).max() + 1]
        return torch.from_numpy(texts)


def _augmentation(source: Source, size: int) -> Callable[[Tensor, np.random.Generator], Tensor]:
    options = source.declaration()
    name = options.pop("name")
    variants.check_options("augmentation", name, options)
    return variants.load("augmentation", name)(image_size=size, **options)


def read_labels(path: str | Path, rows: int) -> Tensor:
    """Read the labels of a manifest's images, int64 [rows].

    Raises:
        StepError: The file is missing or broken, or of another manifest.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StepError(f"the labels {path} cannot be read: {error}") from error
    if array.shape != (rows,) or array.dtype != np.int64 or (rows and array.min() < 0):
        raise StepError(
            f"{path} holds {array.dtype} {array.shape}, not a class for each of {rows} rows"
        )
    return torch.from_numpy(array)
