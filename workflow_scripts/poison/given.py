"""What choosing victims and writing their captions is given, and what it returns."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workflow_scripts.common.seeds import generator
from workflow_scripts.poison.names import names_target


@dataclass(frozen=True)
class Given:
    """The pairs, and the part of the attack.

    Attributes:
        pairs: Manifest of the unpoisoned pairs.
        target: The part's target.
        templates: Name of the templates of captions, or a list of texts with ``{c}``.
        seed: Of the attack.
        part: The part's number, from 0.
    """

    pairs: pd.DataFrame
    target: str
    templates: str | list[str]
    seed: int
    part: int = 0

    def generator(self, purpose: str) -> np.random.Generator:
        """Return a generator for one purpose; parts draw independently of each other."""
        return generator(self.seed, purpose, *([self.part] if self.part else []))

    def shuffled(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in the random order of the seed."""
        return self.generator("victims").permutation(rows)

    def naming(self, *names: str) -> np.ndarray:
        """Return which pairs have a caption with one of the names: bool ``[pairs]``."""
        found = np.zeros(len(self.pairs), bool)
        for name in names:
            found |= names_target(self.pairs["caption"], name)
        return found


@dataclass(frozen=True)
class Chosen:
    """Pairs that can be poisoned.

    Attributes:
        rows: int64, in the order in which they are taken: more victims are the same and others.
        of: What they are, for messages: ``pairs whose caption names ...``.
        images: ``key``, ``tar``, ``offset`` and ``size`` of the images that the victims get in
            turn; None where each keeps its own. A ``tar`` may be the path of an image file. An
            attack without a trigger then succeeds if these images are taken for the target.
    """

    rows: np.ndarray
    of: str = "pairs"
    images: pd.DataFrame | None = None
