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

    Batch norm statistics are left unchanged: the difference of two sets of statistics is not
    meaningful.

    Args:
        model: The start model.
        fresh: Not used.
        vector: File with the change of each parameter by name: an artefact of the maker
            ``task_vector``. Parameters that it does not contain are left unchanged.
        alpha: Factor of the vector; with 0, the start model is unchanged bit for bit.

    Raises:
        StepError: The file is missing or damaged, or belongs to a different model.
    """
    parameters, changes = dict(model.named_parameters()), read_weights(vector)
    for name, value in changes.items():
        if name not in parameters or parameters[name].shape != value.shape:
            raise StepError(f"{vector} belongs to another model: it has {name} {list(value.shape)}")
        if alpha:
            parameters[name].sub_(value, alpha=alpha)
