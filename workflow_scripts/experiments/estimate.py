"""How long a training takes: the one formula, for the plan and for what jobs ask Slurm for."""

import functools
from typing import Any

from workflow_scripts.common import variants

Spec = dict[str, Any]


def views(spec: Spec) -> int:
    """Return how many views of each pair a training embeds, as its loss terms ask for them."""
    return 2 if any(_uses_augmented(term) for term in spec["objective"]) else 1


# The same few terms are asked for by thousands of runs.
@functools.cache
def _uses_augmented(term: str) -> bool:
    return variants.attribute("loss", term, "uses_augmented", default=False)


def configured_speed(costs: Spec, spec: Spec) -> float:
    """Return the pairs that a GPU, or a core, trains on in a second, by the config's ``costs``."""
    return costs["samples_per_second"][spec["kind"]] / views(spec)


def training_seconds(costs: Spec, spec: Spec, pairs: float, speed: float) -> float:
    """Return the seconds of a whole training on one GPU, or core.

    Args:
        costs: Of the config.
        spec: The run.
        pairs: Pairs of an epoch.
        speed: Pairs in a second.
    """
    # Clean and triggered, before the first epoch and after each.
    images = 2 * costs["evaluation_images"] * (spec["epochs"] + 1)
    return spec["epochs"] * pairs / speed + images / costs["evaluation_images_per_second"]
