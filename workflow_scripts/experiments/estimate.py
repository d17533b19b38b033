"""How long a training takes: the one formula, for the plan and for what jobs ask Slurm for."""

from typing import Any

from workflow_scripts.common.passes import image_views
from workflow_scripts.experiments.attacks import images_evaluated

Spec = dict[str, Any]


# Of a forward and a backward pass, the part that the forward pass takes.
_FORWARD = 1 / 3


def views(spec: Spec) -> float:
    """Return how many views of each pair a training embeds, as its loss terms ask for them.

    One is a forward and a backward pass; what the start model embeds has no backward pass.
    """
    seen = image_views(spec["objective"])
    return sum(_FORWARD if by_start else 1 for _, by_start in seen) or 1


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
    # Before the first epoch and after each.
    passes = images_evaluated(spec["attack"])
    images = passes * costs["evaluation_images"] * (spec["epochs"] + 1)
    return spec["epochs"] * pairs / speed + images / costs["evaluation_images_per_second"]
