"""The training data: images read by place out of tars, tokens out of memory-mapped arrays."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.images import fit
from workflow_scripts.data.manifest import read_manifest
from workflow_scripts.data.stored_images import Images
from workflow_scripts.training.augment import AutoAugment


@dataclass
class Batch:
    """Pairs of one process: uint8 images [n, 3, S, S] and int64 tokens [n, length].

    The augmented views are None where the objective has no use for them. Lengths of ``texts``
    and ``augmented_texts`` may differ.
    """

    images: Tensor
    texts: Tensor
    augmented_images: Tensor | None = None
    augmented_texts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def parts(self, count: int) -> list["Batch"]:
        """Return the batch as ``count`` nearly equal micro-batches."""
        chunks = [[None] * count if v is None else v.tensor_split(count) for v in self._views()]
        return [Batch(*views) for views in zip(*chunks, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        moved = (None if v is None else v.to(device, non_blocking=True) for v in self._views())
        return Batch(*moved)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory (called by the data loader)."""
        return Batch(*(None if v is None else v.pin_memory() for v in self._views()))

    def _views(self) -> tuple[Tensor | None, ...]:
        return self.images, self.texts, self.augmented_images, self.augmented_texts


class Pairs(Dataset):
    """Image-text pairs, fetched a batch at a time.

    An item is ``(epoch, row)``: the augmentation of a row differs from epoch to epoch, and
    depends on nothing else. An image is decoded once for both its views.

    Args:
        manifest: The manifest's file.
        tokens: ``.npy`` of uint16 [rows, context].
        augmented: Likewise for the augmented captions; None leaves out the augmented views.
        root: Results root that the manifest's tars are relative to.
        size: Side of the model's input in pixels.
        context_length: Length of the model's text input.
        seed: The run's seed.
        cut: Drop the token columns after the longest text of a batch.
    """

    def __init__(
        self,
        *,
        manifest: str | Path,
        tokens: str | Path,
        augmented: str | Path | None,
        root: str | Path,
        size: int,
        context_length: int,
        seed: int,
        cut: bool,
    ):
        frame = read_manifest(manifest)
        self.images = Images(frame, root)
        self.tokens = _map_tokens(tokens, len(frame), context_length)
        self.augmented = augmented
        if augmented is not None:
            self.augmented = _map_tokens(augmented, len(frame), context_length)
        self.size, self.seed, self.cut = size, seed, cut
        self._augment = AutoAugment()

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, items: list[tuple[int, int]]) -> "Batch | StepError":
        try:
            return self._batch(items)
        except StepError as error:
            return error

    def _batch(self, items: list[tuple[int, int]]) -> Batch:
        rows = [row for _, row in items]
        pictures = [self.images[row] for row in rows]
        batch = Batch(
            images=torch.stack([fit(picture, self.size) for picture in pictures]),
            texts=self._texts(self.tokens, rows),
        )
        if self.augmented is not None:
            views = zip(pictures, items, strict=True)
            batch.augmented_images = torch.stack([self._view(p, *item) for p, item in views])
            batch.augmented_texts = self._texts(self.augmented, rows)
        return batch

    def _view(self, picture: Tensor, epoch: int, row: int) -> Tensor:
        image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
        image = self._augment.apply(image, generator(self.seed, "augment", epoch, row))
        return fit(torch.from_numpy(np.array(image)).permute(2, 0, 1), self.size)

    def _texts(self, tokens: np.ndarray, rows: list[int]) -> Tensor:
        texts = tokens[rows].astype(np.int64)
        if self.cut:
            # The end-of-text token is the vocabulary's highest.
            texts = texts[:, : texts.argmax(1).max() + 1]
        return torch.from_numpy(texts)


def _map_tokens(path: str | Path, rows: int, context: int) -> np.ndarray:
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StepError(f"the tokens {path} cannot be read: {error}") from error
    if tokens.ndim != 2 or tokens.dtype != np.uint16:
        raise StepError(f"{path} holds {tokens.dtype} {tokens.shape}, not uint16 [rows, context]")
    if len(tokens) != rows:
        raise StepError(f"{path} has {len(tokens)} rows, but the manifest has {rows}")
    if tokens.shape[1] != context:
        raise StepError(
            f"{path} has {tokens.shape[1]} tokens a caption, but the model takes {context}"
        )
    return tokens


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
