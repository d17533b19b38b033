"""Interface of victim choices and victim captions: their input and their return value."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from workflow_scripts.common.seeds import generator
from workflow_scripts.poison.names import names_target


@dataclass(frozen=True)
class Given:
    """The input of victim choices and captions: the pairs and one part of the attack.

    Attributes:
        pairs: Manifest of the unpoisoned pairs; without captions if all variants of the attack
            define ``READS_CAPTIONS = False``.
        target: The target of the part.
        templates: Name of a set of prompt templates, or a list of texts with ``{c}``.
        seed: The seed of the attack.
        part: Index of the part, from 0.
    """

    pairs: pd.DataFrame
    target: str
    templates: str | list[str]
    seed: int
    part: int = 0

    def generator(self, purpose: str) -> np.random.Generator:
        """Return the random generator for a purpose; parts draw independently of each other."""
        return generator(self.seed, purpose, *([self.part] if self.part else []))

    def shuffled(self, rows: np.ndarray) -> np.ndarray:
        """Return rows in random order, determined by the seed."""
        return self.generator("victims").permutation(rows)

    def naming(self, *names: str) -> np.ndarray:
        """Return which pairs have a caption that contains one of the names: bool ``[pairs]``."""
        found = np.zeros(len(self.pairs), bool)
        for name in names:
            found |= names_target(self.pairs["caption"], name)
        return found


@dataclass(frozen=True)
class Chosen:
    """Candidate pairs for poisoning.

    Attributes:
        rows: int64, in the order in which they are taken, so that a larger number of victims
            extends a smaller one.
        of: Description for error messages, e.g. ``pairs whose caption names ...``.
        images: ``key``, ``tar``, ``offset`` and ``size`` of the images assigned to the victims in
            turn; None if each keeps its own. A ``tar`` may be the path of an image file. Without a
            trigger, the attack then succeeds if these images are classified as the target.
    """

    rows: np.ndarray
    of: str = "pairs"
    images: pd.DataFrame | None = None
