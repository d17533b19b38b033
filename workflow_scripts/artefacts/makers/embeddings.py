"""The embeddings of all pairs, for use by other artefacts and by attacks."""

from typing import Any

import numpy as np
import pandas as pd

from workflow_scripts.artefacts.makers import Given, Made
from workflow_scripts.model.embedding import embed_images, embed_texts

NEEDS = ("model", "pairs")


def make(given: Given) -> Made:
    """Embed each image and each caption, without normalisation.

    Returns:
        ``images`` and ``texts``, float32 [rows, d]; ``keys``, uint64 [rows], hashes of the keys of
        the pairs.
    """
    rows = len(given.pairs)
    how: Any = {"batch_size": given.batch_size, "workers": given.workers, "world": given.world}
    images = embed_images(given.encoder, given.images, rows, **how, normalize=False)
    texts = embed_texts(given.encoder, given.pairs["caption"].tolist(), **how, normalize=False)
    values = {
        "images": images.cpu().numpy(),
        "texts": texts.cpu().numpy(),
        "keys": hashes(given.pairs["key"]),
    }
    return Made(values, {"rows": rows, "dimensions": given.encoder.embed_dim})


def hashes(keys: pd.Series) -> np.ndarray:
    """Return hashes of keys, uint64 [rows], which are the same in every process."""
    return pd.util.hash_array(keys.to_numpy(object), categorize=False)
