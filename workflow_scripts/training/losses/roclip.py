"""RoCLIP (Yang, Gao and Mirzasoleiman, NeurIPS 2023): a pre-training defence.

In every ``every``-th epoch (a matching epoch), each image is contrasted with the nearest caption
embedding of a pool instead of its own caption, so that image and caption of a poisoned pair are
rarely associated. The pool holds the most recent caption embeddings of the matching epochs.

As in the published code, no gradient flows through the captions of the pool, so that the text tower
is not trained in matching epochs. The published code fills the pool with random unit vectors at the
start (``start: noise``). With ``start: skip``, images are contrasted with their own captions until
the pool is full.
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
        pool: Size of the pool; 21,845 in the published code for a million pairs.
        every: The epochs every, 2 every, ... are matching epochs, counted from 1.
        start: How to proceed before the pool is full: ``skip`` or ``noise``, see the module.
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
        """Determine whether this is a matching epoch."""
        self.resume(epoch.number)

    def resume(self, epoch: int) -> None:
        """Determine whether this is a matching epoch."""
        self.matching = (epoch + 1) % self.every == 0

    def forward(self, features: Features) -> Tensor:
        """Return the loss of a global batch; in a matching epoch, add its captions to the pool."""
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
        # Copied, because the backward pass still needs the replaced captions.
        self.pool = self.pool.index_copy(0, places, texts)
        self.oldest = (self.oldest + len(texts)) % size
        self.filled = (self.filled + len(texts)).clamp(max=size)
