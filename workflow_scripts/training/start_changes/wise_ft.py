"""WiSE-FT (Wortsman et al., CVPR 2022): θ ← (1 - alpha) · θ + alpha · θ of another model."""

from typing import Annotated

import torch
from torch import nn

from workflow_scripts.common.errors import StepError
from workflow_scripts.model.weights import read_weights

KNOWS = ("clean model",)


@torch.no_grad()
def change(
    model: nn.Module,
    fresh: nn.Module,
    *,
    other: str,
    alpha: Annotated[float, ">= 0", "<= 1"],
) -> None:
    """Change ``model`` in place.

    Running means and variances of batch norm are interpolated like weights.

    Args:
        model: The start model.
        fresh: Not used.
        other: Weights of the same architecture: an artefact of the maker ``weights``.
        alpha: Weight of the other model: 0 gives the start model and 1 the other model, bit for
            bit.

    Raises:
        StepError: The file is missing or damaged, or belongs to a different model.
    """
    weights = read_weights(other)
    for name, value in model.state_dict().items():
        there = weights.get(name)
        if there is None or there.shape != value.shape:
            raise StepError(
                f"{other} belongs to another model: its {name} is not {list(value.shape)}"
            )
        if alpha and value.is_floating_point():
            value.lerp_(there, alpha)
