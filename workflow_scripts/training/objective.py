"""The loss of a batch: a weighted sum of terms on the gathered embeddings of the model."""

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from workflow_scripts.common import variants
from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import seed_for
from workflow_scripts.model.encoder import Encoder
from workflow_scripts.training.losses._term import Features, LossTerm, Run
from workflow_scripts.training.pairs import Batch
from workflow_scripts.training.views import Column, Source, Views


class Objective(nn.Module):
    """The weighted sum of the loss terms in a run spec, in the order of their names.

    Args:
        terms: Maps a term's name to its weight, or to {"weight": ..., options of the term}.
        run: The run.

    Raises:
        StepError: A term or an option of it does not exist.
    """

    def __init__(self, terms: dict, run: Run):
        super().__init__()
        self.weights: list[float] = []
        # ModuleList is typed as a list of plain modules.
        self.terms = cast(list[LossTerm], nn.ModuleList())
        for name, value in sorted(terms.items()):
            options = dict(value) if isinstance(value, dict) else {"weight": value}
            weight = options.pop("weight", None)
            if isinstance(weight, bool) or not isinstance(weight, int | float):
                raise StepError(f"the weight of loss term {name!r} must be a number, got {value!r}")
            self.weights.append(float(weight))
            self.terms.append(_make_term(name, options, run))
        self.views = Views(term.views for term in self.terms)

    @property
    def uses_bias(self) -> bool:
        """Whether a term trains the model's logit_bias."""
        return any(term.uses_bias for term in self.terms)

    def forward(self, features: list[Features]) -> Tensor:
        """Return the scalar loss of a global batch, given the features of each term."""
        parts = zip(self.weights, self.terms, features, strict=True)
        losses = (weight * term(inputs) for weight, term, inputs in parts)
        return sum(losses, start=torch.zeros((), device=features[0].scale.device))


def _make_term(name: str, options: dict, run: Run) -> LossTerm:
    kind = variants.load("loss", name)
    if not (isinstance(kind, type) and issubclass(kind, LossTerm)):
        raise StepError(f"the class Loss of {name} must be a subclass of LossTerm")
    variants.check_options("loss", name, options)
    return kind(run=run, **options)


class LossOfBatch(nn.Module):
    """Computes the loss of the global batch from the pairs of this process.

    One forward call is one step, so that DistributedDataParallel can wrap this module and average
    the gradients of all parameters, including those of the loss terms.

    With ``joint_statistics``, all images of a process (or of a micro-batch) that the trained model
    embeds, original and augmented, pass through the image tower in one forward pass and share
    batch norm statistics, as in the published training loop (src/train.py). Without it, each view
    has a separate pass and separate statistics. The option has no effect in evaluation mode or on
    texts, whose tower has no batch norm.

    All randomness of a step (dropout, loss terms) comes from generators seeded by ``step_seed``,
    which the trainer sets, so that no random state is carried from step to step. If the run has
    labels, the trainer also sets ``labels``, int64 [rows of the manifest].

    Args:
        encoder: The trained model.
        objective: The loss.
        world: The process group.
        joint_statistics: See above.
        start: The frozen start model, if a term uses it.
    """

    step_seed = 0
    labels: Tensor | None = None

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        world: ProcessGroup,
        joint_statistics: bool = True,
        start: Encoder | None = None,
    ):
        super().__init__()
        self.encoder, self.start = encoder, start
        # Registered under these names, which are those of the parameters in checkpoints.
        self.model, self.objective = encoder.model, objective
        self.joint_statistics = joint_statistics
        self.world = world
        if encoder.bias is not None:
            # DistributedDataParallel fails on trainable parameters without a gradient.
            encoder.bias.requires_grad_(objective.uses_bias)

    def forward(
        self, batch: Batch, rows: Tensor, upstream: Tensor | None = None, part: int = 0
    ) -> Tensor:
        """Return the loss; with ``upstream``, a scalar with this gradient at the embeddings.

        Args:
            batch: The pairs of this process, on its device.
            rows: int64 [global n], the manifest rows of the global batch.
            upstream: float32 [n, trained views * d], gradient of the loss with respect to the
                output of :meth:`embed_trained`.
            part: Index of the micro-batch.
        """
        views = self.objective.views
        if upstream is None:
            return self.loss(self.world.gather(self.embed(batch, views, part)), rows)
        embeddings = self.embed_trained(batch, views, part)
        # The other parameters enter with factor 0: they have their gradients already, but
        # DistributedDataParallel waits for every parameter.
        others = [self.model.logit_scale, *self.objective.parameters()]
        others += [self.encoder.bias] if self.objective.uses_bias else []
        return (embeddings * upstream).sum() + 0 * sum(p.sum() for p in others)

    def embed(self, batch: Batch, views: Views, part: int = 0) -> Tensor:
        """Return the embeddings of all views, float32 [n, d * len(views.columns)]."""
        trained = self.embed_trained(batch, views, part)
        if not views.by_start:
            return trained
        assert self.start is not None  # set whenever a view is embedded by the start model
        with torch.no_grad():
            others = [_embed(self.start, batch, column) for column in views.by_start]
        return torch.cat([trained, *others], 1)

    def embed_trained(self, batch: Batch, views: Views, part: int = 0) -> Tensor:
        """Return the embeddings by the trained model, float32 [n, d * len(views.trained)]."""
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
        """Return the loss of a global batch, given the embeddings of all its views."""
        scale = self.encoder.scale
        # The gradient of the gather relies on the loss being equal on every process.
        torch.manual_seed(seed_for(self.step_seed, "terms"))
        labels = None if self.labels is None else self.labels[rows]
        features = [
            Features(views, scale, rows, self.encoder.bias, labels)
            for views in self.objective.views.of_terms(embeddings)
        ]
        # DistributedDataParallel waits for every parameter, and not every term uses the scale.
        return self.objective(features) + 0 * scale


def _embed(encoder: Encoder, batch: Batch, column: Column) -> Tensor:
    source = column.source
    if isinstance(source, Source):
        return encoder.images(batch.images[source])
    return encoder.texts(batch.texts[source])


def accumulate(
    module: LossOfBatch, wrapped: nn.Module, batch: Batch, rows: Tensor, parts: int
) -> Tensor:
    """Run the backward pass of a global batch in ``parts`` micro-batches; return the loss.

    Follows GradCache (Gao et al., 2021): embed everything without gradients, compute the gradient
    of the loss with respect to the embeddings, then embed each part again and backpropagate its
    share of that gradient. Exact except for batch norm, which uses micro-batch statistics.

    Args:
        module: The module that computes the loss.
        wrapped: The same module, wrapped in DistributedDataParallel if there are several processes.
        batch: The pairs of this process.
        rows: As for :meth:`LossOfBatch.forward`.
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
    """Prevent batch norm's running statistics from being updated twice in one step."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
