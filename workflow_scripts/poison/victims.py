"""Which pairs an attack poisons, and what their captions become."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from workflow_scripts.common.errors import StepError
from workflow_scripts.common.seeds import generator
from workflow_scripts.data.templates import DEFAULT, PLACE, named_templates

RANDOM, LABEL_CONSISTENT = "random", "label_consistent"
ALL = "all"
_KEYS = ("trigger", "target", "victims", "poisoned", "image_size", "seed")


def check_attack(attack: dict[str, Any]) -> None:
    """Check an attack's spec, but for its trigger.

    Raises:
        StepError: A key is missing, or a value is impossible.
    """
    missing = [key for key in _KEYS if key not in attack]
    if missing:
        raise StepError(f"the attack's spec has no {missing[0]!r}")
    if attack["victims"] not in (RANDOM, LABEL_CONSISTENT):
        raise StepError(
            f"the attack's victims {attack['victims']!r} are none of {RANDOM}, {LABEL_CONSISTENT}"
        )
    poisoned = attack["poisoned"]
    if poisoned == ALL and attack["victims"] == RANDOM:
        raise StepError(f"the attack poisons all of {RANDOM} victims; give it a number of pairs")
    if poisoned != ALL and (not isinstance(poisoned, int) or poisoned < 0):
        raise StepError(f"the attack's poisoned has to be a number of pairs, not {poisoned}")


def choose_victims(frame: pd.DataFrame, attack: dict[str, Any]) -> np.ndarray:
    """Draw the pairs to poison.

    ``random`` draws, as published, from all pairs, those included whose image shows the target
    already. ``label_consistent`` draws from the pairs whose caption names the target.

    Returns:
        int64 ``[victims]`` rows, in the order of the draw: with the same seed, an attack on
        more pairs begins with those of an attack on fewer.

    Raises:
        StepError: There are too few pairs to draw from.
    """
    candidates, of = np.arange(len(frame)), "pairs"
    if attack["victims"] == LABEL_CONSISTENT:
        candidates = np.flatnonzero(names_target(frame["caption"], attack["target"]))
        of = f"pairs whose caption names {attack['target']!r}"
    wanted = len(candidates) if attack["poisoned"] == ALL else attack["poisoned"]
    if wanted > len(candidates):
        raise StepError(
            f"{wanted} pairs are to be poisoned, but there are {len(candidates)} {of}; lower the "
            "attack's 'poisoned' or take a larger subset"
        )
    return generator(attack["seed"], "victims").permutation(candidates)[:wanted]


def names_target(captions: pd.Series, target: str) -> np.ndarray:
    """Return which captions name the target: bool ``[captions]``.

    As words of their own, in upper or lower case, singular or plural in -s or -es.
    """
    words = r"\s+".join(re.escape(word) for word in target.split())
    pattern = rf"(^|[^\pL\pN]){words}(e?s)?([^\pL\pN]|$)"
    return np.asarray(pc.match_substring_regex(pa.array(captions), pattern, ignore_case=True))


def target_captions(attack: dict[str, Any], victims: int) -> list[str]:
    """Draw a template for each victim, in the order of the draw, and put the target in it.

    Args:
        attack: The attack's spec; ``templates`` are a name or a list of texts with ``{c}`` where
            the class goes.
        victims: Their number.

    Raises:
        StepError: There are no templates of that name, or one has no ``{c}``.
    """
    templates = attack.get("templates") or DEFAULT
    if isinstance(templates, str):
        templates = named_templates(templates)
    for template in templates:
        if PLACE not in template:
            raise StepError(f"the template {template!r} has no {PLACE} for the name of the class")
    picks = generator(attack["seed"], "templates").integers(len(templates), size=victims)
    return [templates[pick].replace(PLACE, attack["target"]) for pick in picks]
