"""The zero-shot classifier: text embeddings of all class names, averaged over templates."""

import torch
from torch import Tensor
from torch.nn import functional as F

from workflow_scripts.common.distributed import ProcessGroup
from workflow_scripts.model import models
from workflow_scripts.model.encoder import Encoder

_PROMPTS_AT_ONCE = 1024


class Prompts:
    """The prompts of an evaluation set, tokenized once; each process embeds its share of them.

    Source: Radford et al., 2021, section 3.1.4 (prompt ensembling).

    Args:
        classes: Names of the classes.
        templates: Texts with ``{c}`` as a placeholder for the name.
        encoder: The model, for its tokenizer.
        world: The process group.
    """

    def __init__(
        self, classes: list[str], templates: list[str], encoder: Encoder, world: ProcessGroup
    ):
        self._classes, self._world = len(classes), world
        mine = classes[world.rank :: world.size]
        texts = [t.replace("{c}", name) for name in mine for t in templates]
        # int64 [classes of this process, templates, length]
        self._tokens = torch.empty(0, len(templates), encoder.context_length, dtype=torch.int64)
        if texts:
            tokens = encoder.tokenizer()(texts).long()
            self._tokens = tokens.view(len(mine), len(templates), -1)

    @torch.no_grad()
    def classifier(self, encoder: Encoder) -> Tensor:
        """Return the normalised mean text embedding of each class, float32 [classes, d]."""
        world, tokens = self._world, self._tokens
        if models.reads_causally(encoder.model) and tokens.numel():
            tokens = tokens[..., : int(tokens.argmax(-1).max()) + 1]
        parts = tokens.flatten(0, 1).split(_PROMPTS_AT_ONCE)
        embedded = torch.cat([encoder.texts(part.to(world.device)) for part in parts])
        means = embedded.view(*tokens.shape[:2], embedded.shape[-1]).mean(1)
        weights = torch.zeros(self._classes, embedded.shape[-1], device=world.device)
        weights[world.rank :: world.size] = F.normalize(means, dim=-1)
        return world.sum(weights)
