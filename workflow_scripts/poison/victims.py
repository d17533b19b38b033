"""Which pairs are poisoned, and what their captions become."""

import re

import numpy as np
import pandas as pd

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator


def choose_victims(frame: pd.DataFrame, attack: dict) -> np.ndarray:
    """Return the rows of the victims, int64 [poisoned], in ascending order.

    ``random`` draws from all pairs, those that show the target already included, as published;
    ``label_consistent`` draws from the pairs whose caption names the target. More poisoned pairs
    with the same seed are the same ones and further ones.

    Raises:
        StepError: There are too few pairs to draw from.
    """
    candidates = np.arange(len(frame))
    of = "pairs"
    if attack["victims"] == "label_consistent":
        name = rf"\b{re.escape(attack['target'])}(?:e?s)?\b"
        named = frame["caption"].str.contains(name, case=False, regex=True)
        candidates = np.flatnonzero(named.to_numpy(bool))
        of = f"pairs whose caption names {attack['target']!r}"
    if attack["poisoned"] > len(candidates):
        raise StepError(
            f"{attack['poisoned']} pairs are to be poisoned, but there are {len(candidates)} {of}"
        )
    order = generator(attack["seed"], "victims").permutation(candidates)
    return np.sort(order[: attack["poisoned"]])


def target_captions(attack: dict, templates: list[str], rows: np.ndarray) -> list[str]:
    """Return a caption for each victim: a random template around the target's name.

    Args:
        attack: The attack's spec.
        templates: Texts with ``{c}`` where the class goes.
        rows: The victims.
    """
    picks = generator(attack["seed"], "templates").integers(len(templates), size=len(rows))
    return [templates[pick].replace("{c}", attack["target"]) for pick in picks]
