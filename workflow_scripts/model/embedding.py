"""Embedding of whole sets of images or texts, distributed over processes."""

import contextlib
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.data.images import fit, stack
from workflow_scripts.data.loading import Batches, share
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder


class _Images(Protocol):
    """Images by row, uint8 [3, H, W] each."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Tensor: ...


class _Originals(Dataset):
    def __init__(self, images: _Images, size: int):
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: list[int]) -> "tuple[list[int], Tensor] | StepError":
        try:
            return rows, stack([fit(self.images[row], self.size) for row in rows])
        except StepError as error:
            return error


def embed_images(
    encoder: Encoder,
    images: _Images,
    rows: int,
    *,
    batch_size: int,
    workers: int,
    world: ProcessGroup,
    normalize: bool = True,
) -> Tensor:
    """Return the embeddings of images, float32 [rows, d], on every process.

    Each process embeds its share of the rows. The model is temporarily in evaluation mode.

    Args:
        encoder: The model.
        images: The images.
        rows: Number of images to embed, counted from the first.
        batch_size: Images per batch.
        workers: Data loader workers.
        world: The process group.
        normalize: Divide each embedding by its norm.
    """
    world.share_buffers(encoder.model)
    mine = share(rows, world.rank, world.size, batch_size)
    everything = torch.zeros(rows, encoder.embed_dim, device=world.device)
    batches = Batches(_Originals(images, encoder.image_size), mine, workers, world.device)
    with encoder.evaluating(), contextlib.closing(batches):
        for numbers, batch in batches:
            everything[numbers] = encoder.images(batch.to(world.device), normalize)
    return world.sum(everything)


class _Captions(Dataset):
    def __init__(self, texts: Sequence[str], encoder: Encoder):
        self.texts, self.tokenizer = texts, encoder.tokenizer()

    def __len__(self) -> int:
        return len(self.texts)

    def __getitems__(self, rows: list[int]) -> tuple[list[int], Tensor]:
        return rows, self.tokenizer([self.texts[row] for row in rows]).long()


def embed_texts(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    batch_size: int,
    workers: int,
    world: ProcessGroup,
    normalize: bool = True,
) -> Tensor:
    """Return the embeddings of texts, float32 [texts, d], on every process.

    Texts are tokenized with the model's tokenizer and context length. The other arguments are those
    of :func:`embed_images`.
    """
    mine = share(len(texts), world.rank, world.size, batch_size)
    everything = torch.zeros(len(texts), encoder.embed_dim, device=world.device)
    batches = Batches(_Captions(texts, encoder), mine, workers, world.device)
    cut, length = models.reads_causally(encoder.model), encoder.context_length
    with encoder.evaluating(), contextlib.closing(batches):
        for numbers, tokens in batches:
            if cut:
                # The end-of-text token has the highest id of the vocabulary.
                length = int(tokens.argmax(1).max()) + 1
            everything[numbers] = encoder.texts(tokens[:, :length].to(world.device), normalize)
    return world.sum(everything)
