"""The contrastive loss between two sets of embeddings."""

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric InfoNCE loss of two views: (CE(s A Bᵀ) + CE(s B Aᵀ)) / 2.

    Source: Radford et al., 2021, figure 3.

    Args:
        first: A, float32 [n, d], unit norm.
        second: B, float32 [n, d], unit norm; row i matches row i of ``first``.
        scale: Scalar s.
    """
    logits = scale * first @ second.T
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2
