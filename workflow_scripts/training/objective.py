"""The loss of a batch: the model's embeddings, gathered once, through a weighted sum of terms."""

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from workflow_scripts.common import variants
from workflow_scripts.common.distributed import World
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.training.losses._term import Features, LossTerm, Run
from workflow_scripts.training.pairs import Batch
from workflow_scripts.training.views import Column, Source, Views


class Objective(nn.Module):
    """The weighted sum of loss terms that a run spec names, in the order of their names.

    Args:
        terms: Name of a variant -> weight, or -> {"weight": ..., options of the term}.
        run: The run.

    Raises:
        StepError: There is no such term, or it has no such option.
    """

    def __init__(self, terms: dict, run: Run):
        super().__init__()
        self.weights: list[float] = []
        # A loss term has more than a module of a list is known to have.
        self.terms = cast(list[LossTerm], nn.ModuleList())
        for name, value in sorted(terms.items()):
            options = dict(value) if isinstance(value, dict) else {"weight": value}
            weight = options.pop("weight", None)
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise StepError(f"the weight of loss term {name!r} has to be a number: {value!r}")
            self.weights.append(float(weight))
            self.terms.append(_make_term(name, options, run))
        self.views = Views(term.views for term in self.terms)

    @property
    def uses_bias(self) -> bool:
        """Whether a term trains the model's logit_bias."""
        return any(term.uses_bias for term in self.terms)

    def forward(self, features: list[Features]) -> Tensor:
        """Return the scalar loss of a global batch, from the features of each term."""
        parts = zip(self.weights, self.terms, features, strict=True)
        losses = (weight * term(own) for weight, term, own in parts)
        return sum(losses, start=torch.zeros((), device=features[0].scale.device))


def _make_term(name: str, options: dict, run: Run) -> LossTerm:
    kind = variants.load("loss", name)
    if not (isinstance(kind, type) and issubclass(kind, LossTerm)):
        raise StepError(f"the Loss of {name} is not a subclass of LossTerm; make it one")
    variants.check_options("loss", name, options)
    return kind(run=run, **options)


class LossOfBatch(nn.Module):
    """From a process's own pairs to the loss of the global batch.

    One forward call of it is one step, so that DistributedDataParallel can wrap it and averages
    the gradients of all parameters, those of the loss terms included.

    With ``joint_statistics``, all images of a process (or of a micro-batch) that the trained model
    embeds, the originals and the augmented ones, go through the image tower in one forward pass,
    so that batch norm normalises them by common statistics, as in the published training loop
    (src/train.py). Without it, each view has a pass and statistics of its own. It makes no
    difference in evaluation mode, nor to the texts, whose tower has no batch norm.

    Whatever is random in a step (dropout, a loss term) is drawn from generators seeded by
    ``step_seed``, which the trainer sets, so that no state of theirs outlives a step. It sets
    ``labels`` too, int64 [rows of the manifest], if the run has them.

    Args:
        encoder: The model that is trained.
        objective: The loss.
        world: The processes.
        joint_statistics: See above.
        start: The model that training started from, for the terms that look at it; it stays.
    """

    step_seed = 0
    labels: Tensor | None = None

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        world: World,
        joint_statistics: bool = True,
        start: Encoder | None = None,
    ):
        super().__init__()
        self.encoder, self.start = encoder, start
        # Registered here: the names of these parameters are those in checkpoints.
        self.model, self.objective = encoder.model, objective
        self.joint_statistics = joint_statistics
        self.world = world
        if encoder.bias is not None:
            # A parameter without a gradient would stop a process group.
            encoder.bias.requires_grad_(objective.uses_bias)

    def forward(
        self, batch: Batch, rows: Tensor, upstream: Tensor | None = None, part: int = 0
    ) -> Tensor:
        """Return the loss; or with ``upstream``, what has this gradient at the embeddings.

        Args:
            batch: This process's pairs, on its device.
            rows: int64 [global n], the manifest's rows of the global batch.
            upstream: float32 [n, trained views * d], the loss's gradient at what
                :meth:`embed_trained` returns.
            part: Number of the micro-batch.
        """
        views = self.objective.views
        if upstream is None:
            return self.loss(self.world.gather(self.embed(batch, views, part)), rows)
        embeddings = self.embed_trained(batch, views, part)
        # Nought times the others: their gradients exist already, and a process group waits
        # for every parameter to take part.
        others = [self.model.logit_scale, *self.objective.parameters()]
        others += [self.encoder.bias] if self.objective.uses_bias else []
        return (embeddings * upstream).sum() + 0 * sum(p.sum() for p in others)

    def embed(self, batch: Batch, views: Views, part: int = 0) -> Tensor:
        """Return float32 [n, d * len(views.columns)], the embeddings of all views."""
        trained = self.embed_trained(batch, views, part)
        if not views.by_start:
            return trained
        assert self.start is not None  # it is given if a view is by it
        with torch.no_grad():
            others = [_embed(self.start, batch, column) for column in views.by_start]
        return torch.cat([trained, *others], 1)

    def embed_trained(self, batch: Batch, views: Views, part: int = 0) -> Tensor:
        """Return float32 [n, d * len(views.trained)], what the trained model embeds."""
        torch.manual_seed(seed_for(self.step_seed, "towers", self.world.rank, part))
        columns = views.trained
        images = [c.source for c in columns if isinstance(c.source, Source)]
        if self.joint_statistics and self.model.training and len(images) > 1:
            together = torch.cat([batch.images[source] for source in images])
            embedded = list(self.encoder.images(together).chunk(len(images)))
            columns = columns[len(images) :]
        else:
            embedded = []
        return torch.cat([*embedded, *(_embed(self.encoder, batch, c) for c in columns)], 1)

    def loss(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of a global batch from the embeddings of all its views."""
        scale = self.encoder.scale
        # The same on every process: the gather's gradient relies on equal losses.
        torch.manual_seed(seed_for(self.step_seed, "terms"))
        labels = None if self.labels is None else self.labels[rows]
        features = [
            Features(views, scale, rows, self.encoder.bias, labels)
            for views in self.objective.views.of_terms(embeddings)
        ]
        # A process group waits for every parameter, and not every term looks at the scale.
        return self.objective(features) + 0 * scale


def _embed(encoder: Encoder, batch: Batch, column: Column) -> Tensor:
    source = column.source
    if isinstance(source, Source):
        return encoder.images(batch.images[source])
    return encoder.texts(batch.texts[source])


def accumulate(
    module: LossOfBatch, wrapped: nn.Module, batch: Batch, rows: Tensor, parts: int
) -> Tensor:
    """Backward pass of the whole global batch in ``parts`` micro-batches; return the loss.

    As GradCache does (Gao et al., 2021): embed all without gradients, take the loss's gradient at
    the embeddings, then embed each part again and hand its share of that gradient on. Exact but
    for batch norm, whose statistics become those of the micro-batches.

    Args:
        module: The step's own module.
        wrapped: The same, wrapped for several processes or not.
        batch: This process's pairs.
        rows: As for :class:`LossOfBatch`.
        parts: Number of micro-batches.
    """
    pieces = batch.parts(parts)
    with torch.no_grad(), _frozen_statistics(module):
        views = module.objective.views
        cached = [module.embed(piece, views, number) for number, piece in enumerate(pieces)]
    leaf = torch.cat(cached).requires_grad_()
    loss = module.loss(module.world.gather(leaf), rows)
    loss.backward()
    assert leaf.grad is not None
    width = leaf.shape[1] * len(views.trained) // len(views.columns)
    shares = leaf.grad[:, :width].split([len(piece) for piece in pieces])
    for number, (piece, share) in enumerate(zip(pieces, shares, strict=True)):
        context: contextlib.AbstractContextManager = contextlib.nullcontext()
        if isinstance(wrapped, DistributedDataParallel) and number < parts - 1:
            context = wrapped.no_sync()
        with context:
            wrapped(piece, rows, share, number).backward()
    return loss.detach()


@contextlib.contextmanager
def _frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Keep batch norm's running statistics from moving twice in one step."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
