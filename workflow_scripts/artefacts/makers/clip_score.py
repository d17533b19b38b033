"""Poison detection by CLIPScore: low similarity of image and caption is suspicious.

Source: Huang et al., ICLR 2025 (arXiv 2502.01385), baseline "CLIPScores".
"""

import numpy as np

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.artefacts.neighbours import embedded_pairs, scored

NEEDS = ("pairs",)
USES = ("embeddings",)


def make(given: Given, *, embeddings: str) -> Made:
    """Score each pair by the negative cosine similarity of its two embeddings."""
    pairs = embedded_pairs(given, embeddings)
    return scored(given, -cosines(pairs.images, pairs.texts))


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the row-wise cosine similarity, [n]; 0 for rows of zeros."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / np.maximum(norms, np.finfo(np.float32).tiny)
