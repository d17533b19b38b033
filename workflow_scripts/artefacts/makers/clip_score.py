"""How badly image and caption agree, as a score of suspicious training pairs.

Source: Huang et al., ICLR 2025 (arXiv 2502.01385), baseline "CLIPScores".
"""

import numpy as np

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.artefacts.neighbours import embedded_pairs, scored

NEEDS = ("pairs",)
USES = ("embeddings",)


def make(given: Given, *, embeddings: str) -> Made:
    """Score each pair by minus the cosine of its two embeddings."""
    pairs = embedded_pairs(given, embeddings)
    return scored(given, -cosines(pairs.images, pairs.texts))


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine of each row of the one with that of the other; 0 for a row of zeros."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("nd,nd->n", first, second) / np.maximum(norms, np.finfo(np.float32).tiny)
