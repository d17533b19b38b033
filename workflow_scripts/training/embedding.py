"""The embeddings of many images at once, for what looks at a whole set."""

import contextlib

import torch
from torch import Tensor
from torch.utils.data import Dataset

from workflow_scripts.common.errors import StepError
from workflow_scripts.training.loading import Batches, share
from workflow_scripts.training.objective import LossOfBatch
from workflow_scripts.training.pairs import Images, fit


class _Originals(Dataset):
    def __init__(self, images: Images, size: int):
        self.images, self.size = images, size

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, rows: list[int]) -> "tuple[list[int], Tensor] | StepError":
        try:
            return rows, torch.stack([fit(self.images[row], self.size) for row in rows])
        except StepError as error:
            return error


@torch.no_grad()
def embed_images(
    encoder: LossOfBatch, images: Images, rows: int, *, size: int, batch_size: int, workers: int
) -> Tensor:
    """Return float32 [rows, d], unit norm, on every process; each embeds its share of the rows.

    Args:
        encoder: The model, put into evaluation mode for the time being.
        images: The images.
        rows: How many of them, from the first.
        size: Side of the model's input in pixels.
        batch_size: Images at once.
        workers: Loader processes.
    """
    world, was_training = encoder.world, encoder.training
    world.share_buffers(encoder.model)
    encoder.eval()
    mine = share(rows, world.rank, world.size, batch_size)
    everything = torch.zeros(rows, encoder.embed_dim, device=world.device)
    batches = Batches(_Originals(images, size), mine, workers, world.device)
    with contextlib.closing(batches):
        for numbers, batch in batches:
            everything[numbers] = encoder.embed_images(batch.to(world.device))
    encoder.train(was_training)
    return world.sum(everything)
