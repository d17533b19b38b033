"""Pairs that are nearest to the target in the embedding space of a model, but do not name it.

Such poison evades defences that look for mismatches between image and caption (RoCLIP, SafeCLIP,
CLIPScore).
"""

from pathlib import Path
from typing import Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from workflow_scripts.common.errors import StepError
from workflow_scripts.poison.given import Chosen, Given


def choose(given: Given, *, embeddings: str, by: Literal["images", "texts"] = "images") -> Chosen:
    """Return the pairs that do not name the target, nearest first.

    Proximity is the cosine between a pair's image (or caption) and the mean of the normalised
    embeddings of the captions that name the target.

    Args:
        given: The pairs and the target.
        embeddings: An artefact of the maker ``embeddings``, of the same pairs before poisoning
            (``pairs: dataset``).
        by: Whether to compare the images or the captions of pairs.

    Raises:
        StepError: No caption names the target, or the embeddings are missing or of other pairs.
    """
    of_pairs, texts = _read(embeddings, by, len(given.pairs))
    target = given.naming(given.target)
    if not target.any():
        raise StepError(f"no caption names {given.target!r}, so pairs near it cannot be found")
    mean = _unit(texts[target]).mean(0)
    others = np.flatnonzero(~target)
    order = np.argsort(-(_unit(of_pairs[others]) @ mean), kind="stable")
    return Chosen(others[order], f"pairs whose caption does not name {given.target!r}")


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def _read(path: str, by: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        values = load_file(Path(path))
        found = values[by], values["texts"]
    except (OSError, SafetensorError, KeyError) as error:
        raise StepError(
            f"{path} has no embeddings; refer to an artefact of the maker embeddings"
        ) from error
    if len(found[0]) != rows or len(found[1]) != rows:
        raise StepError(
            f"{path} has embeddings of {len(found[0])} pairs, but there are {rows}; set its "
            "'pairs' to dataset"
        )
    return found
