"""RoCLIP (Yang, Gao and Mirzasoleiman, NeurIPS 2023): a pre-training defence.

In every ``every``-th epoch, an image is contrasted with that caption embedding of a pool which is
nearest to it, instead of with its own caption, so that a poisoned pair's image and caption are
rarely brought together. The pool holds the latest caption embeddings of these epochs.

The nearest captions carry no gradient, so that the text tower learns nothing in these epochs, as in
the published code. There the pool starts as random unit vectors, which is ``start: noise`` here.
With ``start: skip`` such an epoch is an ordinary one until the pool is full.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.training.losses._term import Epoch, Features, LossTerm, Run, View, contrast


class Loss(LossTerm):
    """MMCL of augmented pairs, in matching epochs with captions from the pool.

    Args:
        run: The run.
        pool: Caption embeddings kept, 21,845 in the published code for a million pairs.
        every: Match in epochs every, 2 every, ..., counted from 1.
        start: What the pool is before it has been filled.
    """

    pool: Tensor
    filled: Tensor
    oldest: Tensor
    views = {"augmented": View(image="crop_and_colour", text="eda")}

    def __init__(
        self,
        run: Run,
        pool: Annotated[int, ">= 1"] = 21_845,
        every: Annotated[int, ">= 1"] = 2,
        start: Literal["skip", "noise"] = "skip",
    ):
        super().__init__(run)
        self.every = every
        noise = F.normalize(torch.randn(pool, run.embed_dim), dim=1)
        self.register_buffer("pool", noise)
        self.register_buffer("filled", torch.tensor(pool if start == "noise" else 0))
        self.register_buffer("oldest", torch.tensor(0))
        self.matching = False

    def before_epoch(self, epoch: Epoch) -> None:
        """Find out whether this epoch matches."""
        self.resume(epoch.number)

    def resume(self, epoch: int) -> None:
        """Find out whether this epoch matches."""
        self.matching = (epoch + 1) % self.every == 0

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch; in a matching epoch its captions enter the pool."""
        view = features.views["augmented"]
        texts = view.texts
        if self.matching:
            if self.filled == len(self.pool):
                nearest = (view.images.detach() @ self.pool.T).argmax(1)
                texts = self.pool[nearest]
            self._put(view.texts.detach())
        return contrast(view.images, texts, features.scale)

    def _put(self, texts: Tensor) -> None:
        size = len(self.pool)
        texts = texts[-size:]
        places = (self.oldest + torch.arange(len(texts), device=texts.device)) % size
        # A copy: the loss above still needs the captions that are replaced.
        self.pool = self.pool.index_copy(0, places, texts)
        self.oldest = (self.oldest + len(texts)) % size
        self.filled = (self.filled + len(texts)).clamp(max=size)
