"""Task arithmetic (Ilharco et al., ICLR 2023): θ ← θ - alpha · vector, to unlearn a task."""

from typing import Annotated

import torch
from torch import nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.model.weights import read_weights


@torch.no_grad()
def change(
    model: nn.Module,
    fresh: nn.Module,
    *,
    vector: str,
    alpha: Annotated[float, ">= 0"],
) -> None:
    """Change ``model`` in place.

    Batch norm's statistics are no parameters and stay those of the start model: statistics of a
    difference mean nothing.

    Args:
        model: The start model.
        fresh: Not used.
        vector: File of parameter names to their changes: an artefact of the maker ``task_vector``.
            A parameter that it does not name stays.
        alpha: How often it is subtracted; 0 gives the start model bit for bit.

    Raises:
        StepError: The file is missing or damaged, or is of another model.
    """
    parameters, changes = dict(model.named_parameters()), read_weights(vector)
    for name, value in changes.items():
        if name not in parameters or parameters[name].shape != value.shape:
            raise StepError(f"{vector} is of another model: it has {name} {list(value.shape)}")
        if alpha:
            parameters[name].sub_(value, alpha=alpha)
