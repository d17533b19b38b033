"""Shrink and perturb (Ash and Adams, 2020): θ ← shrink · θ + perturb · θ of a random model."""

from typing import Annotated

import torch
from torch import nn


@torch.no_grad()
def change(
    model: nn.Module,
    fresh: nn.Module,
    *,
    shrink: Annotated[float, ">= 0"],
    perturb: Annotated[float, ">= 0"],
) -> None:
    """Change ``model`` in place.

    All parameters are changed, including logit_scale; batch norm statistics are left unchanged.

    Args:
        model: The start model.
        fresh: The same architecture with random weights.
        shrink: Factor of the start model's weights; 0.95 in the paper.
        perturb: Factor of the random weights; 1e-4 in the paper.
    """
    for parameter, random in zip(model.parameters(), fresh.parameters(), strict=True):
        parameter.mul_(shrink).add_(random, alpha=perturb)
