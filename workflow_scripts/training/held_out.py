"""Losses on held-out clean pairs, which a defender can compute without knowing the trigger."""

import contextlib

import torch
from torch import Tensor

from workflow_scripts.data.loading import Batches, share
from workflow_scripts.training.losses._term import Features, LossTerm, Run
from workflow_scripts.training.losses.mmcl import Loss as MMCL
from workflow_scripts.training.losses.ssl import Loss as SSL
from workflow_scripts.training.objective import LossOfBatch
from workflow_scripts.training.pairs import Pairs
from workflow_scripts.training.views import Views

# Contrastive losses depend on the batch size; a fixed one makes them comparable across runs.
BATCH_SIZE = 128
_RUN = Run(embed_dim=0, rows=0, steps=0, epochs=0, seed=0)
TERMS: dict[str, LossTerm] = {"heldout_mmcl": MMCL(_RUN), "heldout_ssl": SSL(_RUN)}
VIEWS = Views(term.views for term in TERMS.values())


class HeldOut:
    """Measures MMCL and SSL on the last rows of a set of pairs.

    Args:
        pairs: Pairs in the views ``VIEWS``; the augmented views are the same at every epoch.
        rows: Number of rows, counted from the end.
        workers: Data loader workers.
    """

    def __init__(self, pairs: Pairs, rows: int, workers: int):
        self.pairs, self.rows, self.workers = pairs, rows, workers

    def __call__(self, module: LossOfBatch) -> dict[str, float]:
        """Return the mean losses over batches of ``BATCH_SIZE`` pairs; the last may be smaller.

        The processes divide the embedding among themselves and return the same losses.
        """
        encoder = module.encoder
        with encoder.evaluating():
            embedded, scale = self._embed(module), encoder.scale
        sums = dict.fromkeys(TERMS, 0.0)
        for part in embedded.split(BATCH_SIZE):
            rows = torch.arange(len(part))
            for (name, term), views in zip(TERMS.items(), VIEWS.of_terms(part), strict=True):
                sums[name] += term(Features(views, scale, rows)).item() * len(part)
        return {name: total / self.rows for name, total in sums.items()}

    def _embed(self, module: LossOfBatch) -> Tensor:
        """Return the embeddings of all held-out pairs, float32 [rows, d * len(VIEWS.columns)]."""
        world, first = module.world, len(self.pairs) - self.rows
        shares = share(self.rows, world.rank, world.size, BATCH_SIZE)
        mine = [[(0, first + row) for row in rows] for rows in shares]
        width = module.encoder.embed_dim * len(VIEWS.columns)
        everything = torch.zeros(self.rows, width, device=world.device)
        batches = Batches(self.pairs, mine, self.workers, world.device)
        with contextlib.closing(batches):
            for items, batch in zip(mine, batches, strict=True):
                numbers = [row - first for _, row in items]
                everything[numbers] = module.embed(batch.to(world.device), VIEWS)
        return world.sum(everything)
